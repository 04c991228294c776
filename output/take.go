// SPDX-License-Identifier: Apache-2.0

package output

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// Take fetches a session's profile, writes it and says so, and then those of its
// hosts, if they are wanted. It returns the session as it was when the profile
// was made, and says which of its hosts failed.
func (d *Destination) Take(ctx context.Context, s Streams, there session.Runner, id session.ID, outs Files) (*session.Session, error) {
	last, err := d.takeAll(ctx, s, there, id, outs)
	if err != nil {
		return nil, err
	}
	if err := d.takePerHost(ctx, s, there, last); err != nil {
		return nil, err
	}
	if d.WantsSession() {
		if err := json.NewEncoder(s.Out).Encode(last); err != nil {
			return nil, err
		}
	}
	terminal.WriteFailed(s.Err, last)
	return last, nil
}

// takeAll fetches the profile of all hosts if somebody wants it, else what is
// known of the session.
func (d *Destination) takeAll(ctx context.Context, s Streams, there session.Runner, id session.ID, outs Files) (*session.Session, error) {
	if len(outs) > 0 || len(d.perHosts) == 0 && !d.WantsSession() {
		return d.TakeHost(ctx, s, there, id, "", outs)
	}
	one, err := there.Get(ctx, id)
	if err == nil {
		err = one.Failure()
	}
	return &one, err
}

// TakeHost fetches the profile of a host of a session, or of all of it, and
// writes it.
func (d *Destination) TakeHost(ctx context.Context, s Streams, there session.Runner, id session.ID, host string, outs Files) (*session.Session, error) {
	f, err := input.Fetch(ctx, there, id, host)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := d.writeFetched(f, outs)
	if err != nil {
		return nil, err
	}
	if f.Session.State == session.StateRunning {
		fmt.Fprintf(s.Err, "srprof: the session still runs; this is the profile up to now (%v of %v)\n", terminal.Tenths(f.Session.Progress.Elapsed), f.Session.Spec.Duration)
	}
	if p == nil {
		d.summarizeSession(s.Err, &f.Session)
		return &f.Session, nil
	}
	d.Summarize(s.Err, p)
	return &f.Session, d.ExplainTo(s.Err, p)
}

// worthReading is the size up to which a profile is read only to say how good it
// is; most have less than a hundredth of it.
const worthReading = 16 << 20

// writeFetched writes a profile, and returns it if it was read for that, or
// could be at little cost.
func (d *Destination) writeFetched(f *input.Fetched, outs Files) (p *profile.Profile, err error) {
	whole, rest := outs.split()
	failed := whole.writeBytes(f.Reader)
	needed := len(rest) > 0 || d.Explain
	if needed || f.Size <= worthReading {
		if p, err = f.Read(d.Limit); err != nil && (needed || !errors.Is(err, pprof.ErrTooLarge)) {
			return nil, err
		}
	}
	return p, cmp.Or(failed, rest.Write(p))
}

// summarizeSession is summarize for a profile that was not read.
func (d *Destination) summarizeSession(w io.Writer, s *session.Session) {
	if written := d.written(); written != "" {
		fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated\n", written,
			s.Progress.Samples, s.Progress.Elapsed.Round(time.Millisecond), s.Progress.Lost, s.Progress.Truncated)
	}
}
