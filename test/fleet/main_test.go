// SPDX-License-Identifier: Apache-2.0

// Package fleet_test runs the whole system, as real programs on hosts of their
// own: a profiler and an agent on each, and a poller before them.
package fleet_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait, most of the time
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(daemons.Main(m, "the fleet", "serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller", "srprof"))
}
