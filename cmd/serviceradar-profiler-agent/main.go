// SPDX-License-Identifier: Apache-2.0

// Command serviceradar-profiler-agent is the gate to the profiler of a host:
//
//	serviceradar-profiler-agent --config /etc/serviceradar/profiler-agent.json
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/daemon"
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // who reads the log may go away
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the next one ends the program the usual way.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], daemon.Streams{Out: os.Stdout, Err: os.Stderr}))
}
