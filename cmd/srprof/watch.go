// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

func watchCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	c := &cobra.Command{
		Use:   "watch ID [flags]",
		Short: "Tell how a session goes, until its end",
		Long: `Tells of a session at once, then of how it goes, until it ends: on a terminal in
lines that change, else in a line a second. An attended session (of srprof run)
goes on while somebody watches it.

With -o json, each line is the session as an object.
` + connectionHelp + `

Exit codes: those that the session would have had here: 0 it succeeded, 3 but
not on all hosts, 1, 2, 4 or 5 it failed, 130 it was canceled; 130 also if Ctrl-C
ended the watching, which does not end the session.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error {
				return watch(c.Context(), s, there, id, form.json())
			})
		},
	}
	n.addFlags(c)
	form.addFormFlag(c, false)
	n.completeIDs(c)
	return c
}

// watch tells of a session until it ends. Its error is what became of it.
func watch(ctx context.Context, s streams, there session.Runner, id session.ID, asJSON bool) error {
	show := terminal.NewProgress(s.Err)
	if asJSON {
		show = terminal.NewProgress(io.Discard)
	}
	var last session.Session
	var told time.Time
	for now, err := range there.Watch(ctx, id) {
		show.End()
		if err != nil {
			return err
		}
		changed := now.State != last.State
		last = now
		if now.State == session.StateFailed && !asJSON {
			now.Err = nil // it is printed as the error that it is
		}
		switch {
		case asJSON:
			err = writeJSON(s.Out, &now)
		case changed || !show.Seen() && time.Since(told) >= time.Second:
			told = time.Now()
			_, err = fmt.Fprintln(s.Out, terminal.Line(&now))
		}
		if err != nil {
			return fmt.Errorf("write the progress: %w", err)
		}
		if !now.State.Final() {
			show.Session(&now)
		}
	}
	if !asJSON {
		terminal.WriteFailed(s.Err, &last)
	}
	return outcome(&last)
}

// outcome is the error of a session that ended.
func outcome(s *session.Session) error {
	switch s.State {
	case session.StateSucceeded:
		if len(s.Failed()) > 0 {
			return errPartial
		}
		return nil
	case session.StateCanceled:
		return errInterrupted
	}
	return s.Failure()
}
