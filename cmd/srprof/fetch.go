// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

func fetchCommand(s streams) *cobra.Command {
	var n connection
	var d destination
	c := &cobra.Command{
		Use:   "fetch ID [flags]",
		Short: "Fetch the profile of a session and write it",
		Long: `Fetches the profile of a session and writes it as srprof record does: the
extension of --output chooses the format, unless --format does; without either,
a table goes to standard output. A profile can be fetched as often as you like,
until the profiler forgets the session; of a session that runs it is what is
known so far. A .pb.gz is written as it came.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted, 5 no samples.`,
		Example: `  srprof fetch 3f2a --server web-01 --cert-dir certs --output web.svg
  srprof fetch 3f2a --output web.html --output web.pb.gz --explain`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			outs, err := d.create(s)
			defer outs.abandon()
			if err != nil {
				return err
			}
			return n.with(c.Context(), args[0], func(there session.Runner, id session.ID) error {
				_, err := d.take(c.Context(), s, there, id, outs)
				return err
			})
		},
	}
	d.addFlags(c)
	d.largest.addFlag(c)
	n.addFlags(c)
	n.completeIDs(c)
	return c
}

// take fetches a profile, writes it and says so. It returns the session as it
// was when the profile was made.
func (d *destination) take(ctx context.Context, s streams, there session.Runner, id session.ID, outs outputs) (*session.Session, error) {
	f, err := fetch(ctx, there, id)
	if err != nil {
		return nil, err
	}
	defer f.file.Close()
	whole, rest := outs.split()
	if err := whole.writeBytes(f.reader); err != nil {
		return nil, err
	}
	var p *profile.Profile
	needed := len(rest) > 0 || d.explain
	if needed || f.size <= worthReading {
		if p, err = f.read(d.largest); err != nil && (needed || !errors.Is(err, pprof.ErrTooLarge)) {
			return nil, err
		}
	}
	if err := rest.write(p); err != nil {
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
func fetch(ctx context.Context, there session.Runner, id session.ID) (*fetched, error) {
	content, err := there.Fetch(ctx, id, session.Want{Format: session.FormatPprof})
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
	fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated\n",
		strings.Join(d.outputs, ", "), s.Progress.Samples, s.Progress.Elapsed.Round(time.Millisecond), s.Progress.Lost, s.Progress.Truncated)
}
