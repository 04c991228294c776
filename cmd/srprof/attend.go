// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// recordThere is a recording elsewhere: start, watch, fetch, write.
func recordThere(ctx context.Context, s streams, there *dialed, spec session.Spec, d *output.Destination, outs output.Files) error {
	spec.Attended, spec.RequestID = true, rand.Text()
	one, err := there.Start(ctx, spec)
	if err != nil { // if it began all the same, it ends as nobody comes to watch it
		return tooEarly(ctx, s, err)
	}
	show := terminal.NewProgress(s.Err)
	err = session.Attend(ctx, there, &one, show.Session)
	show.End()
	if one.State == session.StateFailed && len(one.Hosts) > 1 {
		terminal.WriteFailed(s.Err, &one)
		if d.WantsSession() {
			err = errors.Join(err, writeJSON(s.Out, &one))
		}
	}
	if err != nil {
		return there.lost(&one, err)
	}
	// Who was interrupted still wants what there is; the next signal ends that.
	last, err := d.Take(context.WithoutCancel(ctx), s, there, one.ID, outs)
	switch {
	case ctx.Err() == nil && errors.Is(err, session.ErrCanceled): // by somebody else
		printError(s.Err, err)
		return errInterrupted
	case err != nil:
		return there.lost(&one, tooEarly(ctx, s, err))
	case last.State == session.StateCanceled && ctx.Err() == nil && last.Err != nil:
		fmt.Fprintf(s.Err, "srprof: %s [%s]; the profile is of the time up to then\n", terminal.Printable(last.Err.Error()), terminal.Printable(last.Err.Code))
	}
	switch {
	case ctx.Err() != nil, last.State == session.StateCanceled:
		return errInterrupted
	case len(last.Failed()) > 0:
		return errPartial
	}
	return nil
}

// lost tells who lost sight of a session, or could not write its profile, how to
// come by it again.
func (d *dialed) lost(one *session.Session, err error) error {
	var e *session.Error
	if one.State == session.StateFailed || !errors.As(err, &e) {
		return err
	}
	fetch := fmt.Sprintf("srprof fetch %s%s gets", terminal.Short(one.ID, terminal.ShortID), d.command)
	switch {
	case e.Code == output.CodeNotWritten:
		told := *e
		told.Remedy += "; " + fetch + " the profile again"
		return &told
	case errors.Is(err, session.ErrUnavailable):
		return &session.Error{Code: "connection_lost", Kind: session.ErrUnavailable, Cause: e.Cause,
			Problem: fmt.Sprintf("lost sight of session %s: %s", terminal.Short(one.ID, terminal.ShortID), e.Problem),
			Remedy:  "when it answers again, " + fetch + " what it sampled, unless it was started anew"}
	}
	return err
}
