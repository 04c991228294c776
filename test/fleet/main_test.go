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

// bin is where the programs under test are.
var bin string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			fmt.Println("the tests of the fleet need root")
			return 1
		}
		fmt.Println("skipped: the tests of the fleet need root")
		return 0
	}
	dir, err := os.MkdirTemp("", "srprof-fleet-*")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	if err := daemons.Build(dir, "serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller", "srprof"); err != nil {
		fmt.Println(err)
		return 1
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait, most of the time
		fmt.Println(err)
		return 1
	}
	return m.Run()
}
