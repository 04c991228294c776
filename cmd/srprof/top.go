// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding/report"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// topping is what srprof top was asked to do.
type topping struct {
	host  string
	once  bool
	most  int
	every time.Duration
	limit input.Limit
}

func topCommand(s streams) *cobra.Command {
	var n connection
	var t topping
	c := &cobra.Command{
		Use:   "top ID [flags]",
		Short: "Show the hottest functions of a session, while it runs",
		Long: `Shows the hottest functions that a session has found up to now, again and again
until it ends, in the terminal. Once with --once, or where standard output is no
terminal. Ctrl-C ends the looking, not the session.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted, 5 no samples, 130 if Ctrl-C
ended the looking.`,
		Example: `  srprof top 3f2a
  srprof top 3f2a --host web-07 --once`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error { return top(c.Context(), s, there, id, &t) })
		},
	}
	f := c.Flags()
	f.StringVar(&t.host, "host", "", "`NAME` of the one host whose part is wanted")
	completeFlag(c, "host", n.hosts)
	f.BoolVar(&t.once, "once", false, "show it once")
	f.IntVarP(&t.most, "most", "n", 0, "functions shown (default: what fits into the terminal, else 20)")
	f.DurationVar(&t.every, "every", 2*time.Second, "how often to look")
	addLimitFlag(c, &t.limit)
	n.addFlags(c)
	n.completeIDs(c)
	return c
}

// shortestLook keeps people from asking a profiler for nothing else.
const shortestLook = 100 * time.Millisecond

func top(ctx context.Context, s streams, there session.Runner, id session.ID, t *topping) error {
	if t.every < shortestLook {
		return session.Invalid("bad_every", fmt.Sprintf("--every is %v", t.every), fmt.Sprintf("say %v at least", shortestLook))
	}
	screen := terminal.ScreenOf(s.Out)
	live := screen != nil && !t.once
	for {
		one, p, err := t.look(ctx, there, id)
		if live && errors.Is(err, session.ErrNotReady) {
			err = nil // it waits, or has no sample yet
		}
		if err != nil {
			return err
		}
		if err := t.show(s.Out, screen, live, one, p); err != nil {
			return err
		}
		if !live || one.State.Final() {
			return nil
		}
		select {
		case <-ctx.Done():
			return errInterrupted
		case <-time.After(t.every):
		}
	}
}

// look fetches what is known so far; the profile is nil if that is nothing.
func (t *topping) look(ctx context.Context, there session.Runner, id session.ID) (*session.Session, *profile.Profile, error) {
	f, err := input.Fetch(ctx, there, id, t.host)
	if err != nil {
		one, getErr := there.Get(ctx, id)
		return &one, nil, errors.Join(err, getErr)
	}
	defer f.Close()
	p, err := f.Read(t.limit)
	return &f.Session, p, err
}

// show writes a line about the session and the table, onto a screen that was
// cleared where it is to be seen live.
func (t *topping) show(w io.Writer, screen *terminal.Screen, live bool, one *session.Session, p *profile.Profile) error {
	o := report.Options{Top: t.most}
	if screen != nil {
		width, height := screen.Size()
		o.Color, o.Width = screen.Color(), width
		if t.most == 0 && live {
			o.Top = max(height-6, 1)
		}
	}
	var page bytes.Buffer
	if live {
		page.WriteString("\x1b[H\x1b[2J")
	}
	on := t.host
	if on == "" {
		on = terminal.Where(one)
	}
	fmt.Fprintf(&page, "session %s  %s on %s  %s\n", terminal.Short(one.ID, terminal.ShortID), terminal.Target(one), terminal.Printable(on), terminal.Line(one))
	if p != nil {
		if err := report.WriteFunctions(&page, p.AtOneFrequency().Shortened(), o); err != nil {
			return err
		}
	}
	_, err := page.WriteTo(w)
	return err
}
