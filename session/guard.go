// SPDX-License-Identifier: Apache-2.0

package session

import "context"

// Guard stands for whoever asked for a session, while it waits and runs: what
// was allowed when it was asked for may not be by the time it happens.
type Guard interface {
	// Permit says whether a process may be sampled, as it is now. It is named
	// by its PID and its start time, so that it is not another one. It is asked
	// of each target before the first sample, and again while sampling goes on:
	// a process may execute a program with other rights. The error is
	// fs.ErrNotExist when the process is gone.
	Permit(pid int, start uint64) error
	// Ended is told how the session ended. It is called once, from any
	// goroutine.
	Ended(Session)
}

type guardKey struct{}

// WithGuard is a context for Start. It stays in this process: a runner on
// another host has guards of its own.
func WithGuard(ctx context.Context, g Guard) context.Context {
	return context.WithValue(ctx, guardKey{}, g)
}

// GuardOf is the guard that comes with a context; nil if none does.
func GuardOf(ctx context.Context) Guard {
	g, _ := ctx.Value(guardKey{}).(Guard)
	return g
}
