// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

func fetchCommand(s streams) *cobra.Command {
	var n connection
	var of string
	d := destination{sessions: true}
	c := &cobra.Command{
		Use:   "fetch ID [flags]",
		Short: "Fetch the profile of a session and write it",
		Long: `Fetches the profile of a session and writes it as srprof record does: the
extension of --output chooses the format, unless --format does; without either,
a table goes to standard output. A profile can be fetched as often as you like,
until the profiler forgets the session; of a session that runs it is what is
known so far. A .pb.gz is written as it came.

The profile of a session on several hosts is of all of them, and each sample
keeps its host: --by-host makes it the first level of the picture. --host takes
only one host's; {host} in the name of an --output makes a file for each host,
and so does --per-host. -o json writes the session, with what became of each host.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 3 some hosts failed (the profile is of the
others), 4 not permitted, 5 no samples.`,
		Example: `  srprof fetch 3f2a --server web-01 --cert-dir certs --output web.svg
  srprof fetch 3f2a --output web.html --output web.pb.gz --explain
  srprof fetch 3f2a --by-host -o shop.svg -o 'shop-{host}.svg'
  srprof fetch 3f2a --host web-07 -o web-07.svg`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			outs, err := d.create(s)
			defer outs.abandon()
			if err != nil {
				return err
			}
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error {
				if of != "" {
					_, err := d.takeHost(c.Context(), s, there, id, of, outs)
					return err
				}
				_, err := d.take(c.Context(), s, there, id, outs)
				return err
			})
		},
	}
	d.addFlags(c)
	d.addFleetFlags(c)
	c.Flags().StringVar(&of, "host", "", "`NAME` of the one host whose profile is wanted")
	completeFlag(c, "host", n.hosts)
	d.largest.addFlag(c)
	n.addFlags(c)
	n.completeIDs(c)
	return c
}

// take fetches a session's profile, writes it and says so, and then those of its
// hosts, if they are wanted. It returns the session as it was when the profile
// was made. The error is errPartial if some hosts failed.
func (d *destination) take(ctx context.Context, s streams, there session.Runner, id session.ID, outs outputs) (*session.Session, error) {
	var last *session.Session
	var err error
	if len(outs) > 0 || len(d.perHosts) == 0 && !d.wantsSession() {
		last, err = d.takeHost(ctx, s, there, id, "", outs)
	} else {
		var one session.Session
		one, err = there.Get(ctx, id)
		last = &one
		if err == nil && one.State == session.StateFailed {
			err = outcome(last)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := d.takePerHost(ctx, s, there, last); err != nil {
		return nil, err
	}
	if d.wantsSession() {
		if err := writeJSON(s.out, last); err != nil {
			return nil, fmt.Errorf("write the session: %w", err)
		}
	}
	if len(last.Failed()) > 0 {
		tellFailed(s.err, last)
		return last, errPartial
	}
	return last, nil
}

// takeHost fetches the profile of a host of a session, or of all of it, and
// writes it.
func (d *destination) takeHost(ctx context.Context, s streams, there session.Runner, id session.ID, host string, outs outputs) (*session.Session, error) {
	f, err := fetch(ctx, there, id, host)
	if err != nil {
		return nil, err
	}
	defer f.file.Close()
	p, err := d.writeFetched(f, outs)
	if err != nil {
		return nil, err
	}
	if f.session.State == session.StateRunning {
		fmt.Fprintf(s.err, "srprof: the session still runs; this is the profile up to now (%v of %v)\n", tenths(f.session.Progress.Elapsed), f.session.Spec.Duration)
	}
	if p == nil {
		d.summarizeSession(s.err, &f.session)
		return &f.session, nil
	}
	d.summarize(s.err, p)
	return &f.session, d.explainTo(s.err, p)
}

// writeFetched writes a profile, and returns it if it was read for that, or
// could be at little cost.
func (d *destination) writeFetched(f *fetched, outs outputs) (p *profile.Profile, err error) {
	whole, rest := outs.split()
	if err := whole.writeBytes(f.reader); err != nil {
		return nil, err
	}
	needed := len(rest) > 0 || d.explain
	if needed || f.size <= worthReading {
		if p, err = f.read(d.largest); err != nil && (needed || !errors.Is(err, pprof.ErrTooLarge)) {
			return nil, err
		}
	}
	return p, rest.write(p)
}

const (
	// worthReading is the size up to which a profile is read only to say how
	// good it is; most have less than a hundredth of it.
	worthReading = 16 << 20
	// maxFetched keeps a profiler from filling the disk.
	maxFetched = 1 << 30
)

// fetched is a profile as it came, in a file without a name.
type fetched struct {
	session session.Session
	file    *os.File
	size    int64
}

// fetch keeps a profile in a file, so that it takes no memory and nothing is
// written that did not arrive whole.
func fetch(ctx context.Context, there session.Runner, id session.ID, host string) (*fetched, error) {
	content, err := there.Fetch(ctx, id, session.Want{Format: session.FormatPprof, Host: host})
	if err != nil {
		return nil, err
	}
	defer content.Body.Close()
	if content.Size > maxFetched {
		return nil, &session.Error{Code: "profile_too_large", Kind: session.ErrTooLarge, Problem: fmt.Sprintf("the profile has %d MB", content.Size>>20),
			Remedy: "record for a shorter time, or at a lower --frequency"}
	}
	file, err := os.CreateTemp("", "srprof-*")
	if err != nil {
		return nil, fmt.Errorf("keep the profile: %w", err)
	}
	f := &fetched{session: content.Session, file: file}
	err = os.Remove(file.Name())
	if err == nil {
		f.size, err = io.Copy(file, io.LimitReader(content.Body, maxFetched))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("fetch the profile: %w", err)
	}
	return f, nil
}

// reader reads it from its start.
func (f *fetched) reader() io.Reader { return io.NewSectionReader(f.file, 0, f.size) }

func (f *fetched) read(largest largestFlag) (*profile.Profile, error) {
	p, err := largest.read(f.reader())
	if err == nil {
		return p, nil
	}
	e := unreadable("of session "+string(f.session.ID), err)
	if errors.Is(err, pprof.ErrTooLarge) {
		e.Remedy = "take it as it is: srprof fetch ID --output x.pb.gz; or raise --" + largestName + " where there is memory for it"
	}
	return nil, e
}

// summarizeSession is summarize for a profile that was not read.
func (d *destination) summarizeSession(w io.Writer, s *session.Session) {
	if written := d.written(); written != "" {
		fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated\n", written,
			s.Progress.Samples, s.Progress.Elapsed.Round(time.Millisecond), s.Progress.Lost, s.Progress.Truncated)
	}
}
