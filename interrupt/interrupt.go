// SPDX-License-Identifier: Apache-2.0

// Package interrupt is how programs are asked to end: the first signal asks, the
// next one ends them at once, the way it does programs that know of no signals.
package interrupt

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Context ends with the first of these signals. The next one ends the program
// the usual way, however soon it comes: whoever sees that the program stops may
// send it.
func Context(signals ...os.Signal) context.Context {
	ctx, stop := context.WithCancel(context.Background())
	came := make(chan os.Signal, 1)
	signal.Notify(came, signals...)
	go func() {
		<-came
		signal.Stop(came) // when it returns, what came meanwhile is in the channel
		select {
		case next := <-came:
			_ = syscall.Kill(os.Getpid(), next.(syscall.Signal)) // to ourselves: it cannot fail
		default:
		}
		stop()
	}()
	return ctx
}
