// SPDX-License-Identifier: Apache-2.0

// Command srprof records what a running process does and draws it:
//
//	srprof record --pid 4242 --output web.svg
package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/interrupt"
)

func main() {
	ask := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // with nohup, a terminal that goes away is no reason to end
		ask = append(ask, syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGPIPE) // or what was begun beside standard output would stay
	os.Exit(run(interrupt.Context(ask...), os.Args[1:], streams{Out: os.Stdout, Err: os.Stderr}))
}
