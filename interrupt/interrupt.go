// SPDX-License-Identifier: Apache-2.0

// Package interrupt is how programs are asked to end: the first signal asks, the
// next one ends them at once, the way it does programs that know of no signals.
package interrupt

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// together is how close two equal signals are one: timeout(1) sends each to the
// program and to its process group, and the kernel, too, makes one of two that
// wait.
const together = 50 * time.Millisecond

// Context ends with the first of these signals. The next one ends the program
// the usual way, however soon it comes: whoever sees that the program stops may
// send it.
func Context(signals ...os.Signal) context.Context {
	ctx, stop := context.WithCancel(context.Background())
	came := make(chan os.Signal, 2)
	signal.Notify(came, signals...)
	go func() {
		next := another(<-came, came, time.After(together))
		signal.Stop(came) // when it returns, what came meanwhile is in the channel
		if next == nil {
			select {
			case next = <-came:
			default:
			}
		}
		if next != nil {
			_ = syscall.Kill(os.Getpid(), next.(syscall.Signal)) // to ourselves: it cannot fail
		}
		stop()
	}()
	return ctx
}

// another is a signal that comes after the first one, and is not that one again,
// before it is late; nil if none does.
func another(first os.Signal, came <-chan os.Signal, late <-chan time.Time) os.Signal {
	for {
		select {
		case next := <-came:
			if next != first {
				return next
			}
		case <-late:
			return nil
		}
	}
}
