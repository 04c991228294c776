// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/session"
)

// recordThere is a recording elsewhere: start, watch, fetch, write.
func (d *destination) recordThere(ctx context.Context, s streams, there *dialed, spec session.Spec, outs outputs) error {
	spec.Attended, spec.RequestID = true, rand.Text()
	one, err := there.Start(ctx, spec)
	if err != nil { // if it began all the same, it ends as nobody comes to watch it
		return err
	}
	show := newProgress(s.err)
	err = attend(ctx, there, &one, show.session)
	show.end()
	if one.State == session.StateFailed && len(one.Hosts) > 1 {
		tellFailed(s.err, &one)
		if d.wantsSession() {
			err = errors.Join(err, writeJSON(s.out, &one))
		}
	}
	if err != nil {
		return there.lost(&one, err)
	}
	// Who was interrupted still wants what there is; the next signal ends that.
	last, err := d.take(context.WithoutCancel(ctx), s, there, one.ID, outs)
	switch {
	case ctx.Err() != nil && errors.Is(err, session.ErrNotReady), errors.Is(err, session.ErrCanceled):
		printError(s.err, err)
		return errInterrupted
	case errors.Is(err, errPartial) && ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return there.lost(&one, err)
	case last.State == session.StateCanceled && ctx.Err() == nil && last.Err != nil:
		fmt.Fprintf(s.err, "srprof: %s [%s]; the profile is of the time up to then\n", printable(last.Err.Error()), printable(last.Err.Code))
	}
	if ctx.Err() != nil || last.State == session.StateCanceled {
		return errInterrupted
	}
	return nil
}

// attend watches a session until it ends, and returns nil if there may be a
// profile. When ctx is done it ends the session; one that serves others too is
// left to them.
func attend(ctx context.Context, there session.Runner, one *session.Session, show func(*session.Session)) error {
	watching, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	left := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		shared, err := end(watching, there, one.ID)
		left <- err
		if shared || err != nil {
			leave()
		}
	})
	defer stop()
	for now, err := range there.Watch(watching, one.ID) {
		switch {
		case watching.Err() != nil:
			return <-left
		case err != nil:
			return err
		}
		*one = now
		show(&now)
	}
	if one.State == session.StateFailed {
		return outcome(one)
	}
	return nil
}

// end ends a session unless it serves others too.
func end(ctx context.Context, there session.Runner, id session.ID) (shared bool, err error) {
	now, err := there.Get(ctx, id)
	if err != nil || now.Shared > 1 {
		return now.Shared > 1, err
	}
	_, err = there.Cancel(ctx, id)
	if errors.Is(err, session.ErrUnavailable) { // then who watches is told, too, or sees its end
		err = nil
	}
	return false, err
}

// lost tells who lost sight of a session how to find it again.
func (d *dialed) lost(one *session.Session, err error) error {
	var e *session.Error
	if !errors.Is(err, session.ErrUnavailable) || one.State == session.StateFailed || !errors.As(err, &e) {
		return err
	}
	return &session.Error{Code: "connection_lost", Kind: session.ErrUnavailable, Cause: e.Cause,
		Problem: fmt.Sprintf("lost sight of session %s: %s", short(one.ID, shortID), e.Problem),
		Remedy: fmt.Sprintf("when it answers again, srprof fetch %s%s gets what it sampled, unless it was started anew",
			short(one.ID, shortID), d.command)}
}
