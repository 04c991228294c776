// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
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
	form  formFlag
}

func topCommand(s streams) *cobra.Command {
	var n connection
	var t topping
	c := &cobra.Command{
		Use:   "top ID [flags]",
		Short: "Show the hottest functions of a session, while it runs",
		Long: `Shows the hottest functions that a session has found up to now, again and again
until it ends, in the terminal. Once with --once, with -o json, or where standard
output is no terminal. Ctrl-C ends the looking, not the session.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted, 5 no samples, 130 if Ctrl-C
ended the looking.`,
		Example: `  srprof top 3f2a
  srprof top 3f2a --host web-07 --once
  srprof top 3f2a -n 1 -o json | jq -r .functions[0].function`,
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
	t.form.addFormFlag(c, false)
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
	live := screen != nil && !t.once && !t.form.json()
	for {
		one, p, err := t.look(ctx, there, id)
		if t.form.json() && err == nil {
			return t.writeJSON(s.Out, one, p)
		}
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
	if errors.Is(err, session.ErrNotReady) {
		one, getErr := there.Get(ctx, id)
		return &one, nil, cmp.Or(getErr, err)
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	p, err := f.Read(t.limit)
	return &f.Session, p, err
}

// functionJSON is a function as programs read it. Shares are of the samples of
// the profile, in percent.
type functionJSON struct {
	Function     string  `json:"function"`
	Object       string  `json:"object,omitempty"`
	Kernel       bool    `json:"kernel"`
	Self         uint64  `json:"self"`
	Total        uint64  `json:"total"`
	SelfPercent  float64 `json:"self_percent"`
	TotalPercent float64 `json:"total_percent"`
}

// writeJSON writes the table, and the session that it is of.
func (t *topping) writeJSON(w io.Writer, one *session.Session, p *profile.Profile) error {
	p = p.AtOneFrequency().Shortened()
	var samples uint64
	for i := range p.Samples {
		samples += p.Samples[i].Count
	}
	all := p.Functions()
	if most := cmp.Or(t.most, defaultFunctions); most > 0 && most < len(all) {
		all = all[:most]
	}
	table := make([]functionJSON, len(all))
	for i, f := range all {
		table[i] = functionJSON{f.Name, f.Object, f.Kind == profile.FrameKernel, f.Self, f.Total, 100 * float64(f.Self) / float64(samples), 100 * float64(f.Total) / float64(samples)}
	}
	return writeJSON(w, struct {
		Session   *session.Session `json:"session"`
		Host      string           `json:"host,omitempty"` // whose part it is; all of it where none is named
		Samples   uint64           `json:"samples"`
		Functions []functionJSON   `json:"functions"`
	}{one, t.host, samples, table})
}

// defaultFunctions are shown where nothing is asked for.
const defaultFunctions = 20

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
