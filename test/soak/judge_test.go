// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// how spells how a request ended.
func how(now session.Session, err error) string {
	var e *session.Error
	switch {
	case errors.As(err, &e):
		return "refused: " + e.Code
	case err != nil:
		return "refused: " + err.Error()
	case now.Err != nil:
		return string(now.State) + ": " + now.Err.Code
	}
	return string(now.State)
}

// expect notes how a request ended, and complains unless that is one of the
// right ways.
func (v *visitor) expect(now session.Session, err error, right ...string) error {
	got := how(now, err)
	v.ended(v.name, got)
	if !slices.Contains(right, got) {
		return fmt.Errorf("session %s of %v ended with %q, %+v, want one of %q (error: %v)", now.ID, now.Spec.PIDs, got, now.Progress, right, err)
	}
	return nil
}

// until watches a session to its end.
func (v *visitor) until(ctx context.Context, id session.ID) (last session.Session, err error) {
	for now, err := range v.there.Watch(ctx, id) {
		if err != nil {
			return last, fmt.Errorf("watch session %s: %w", id, err)
		}
		last = now
	}
	if !last.State.Final() {
		return last, fmt.Errorf("session %s is %s when it is watched no more", id, last.State)
	}
	return last, nil
}

// fetch reads the profile of a session.
func (v *visitor) fetch(ctx context.Context, id session.ID) (*profile.Profile, error) {
	content, err := v.there.Fetch(ctx, id, session.Want{})
	if err != nil {
		return nil, fmt.Errorf("fetch session %s: %w", id, err)
	}
	defer content.Body.Close()
	p, err := pprof.Read(content.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch session %s: %w", id, err)
	}
	_, err = io.Copy(io.Discard, content.Body) // to its end, where it is checked
	return p, err
}

// enough samples for chance to have no say in which function is the hottest,
// where one has nearly all.
const enough = 12

// judge says what is wrong with a profile of a target.
func (v *visitor) judge(p *profile.Profile, now session.Session, of target) error {
	m := &p.Meta
	var (
		samples uint64
		self    = map[string]uint64{}
	)
	for i := range p.Samples {
		s := &p.Samples[i]
		samples += s.Count
		for _, f := range p.Frames(s) {
			self[f.Name] += s.Count
			break
		}
		if !now.Spec.Children && s.Thread.PID != of.pid {
			return fmt.Errorf("session %s of process %d has samples of %d", now.ID, of.pid, s.Thread.PID)
		}
	}
	if samples != m.Counts.Samples || samples == 0 || now.State.Final() && samples != now.Progress.Samples {
		return fmt.Errorf("session %s has %d samples in its profile, %d in its metadata, and says %d", now.ID, samples, m.Counts.Samples, now.Progress.Samples)
	}
	// More than each CPU can give there cannot be, whatever the target did.
	if most := m.Duration().Seconds() * float64(m.FrequencyHz) * float64(m.CPUs); float64(samples) > 1.1*most+float64(2*m.CPUs) {
		return fmt.Errorf("session %s has %d samples in %v at %d Hz on %d CPUs", now.ID, samples, m.Duration(), m.FrequencyHz, m.CPUs)
	}
	if samples < enough || len(of.hot) == 0 {
		return nil
	}
	v.mu.Lock()
	v.verified++
	v.mu.Unlock()
	hottest := slices.MaxFunc(slices.Sorted(maps.Keys(self)), func(a, b string) int { return int(self[a]) - int(self[b]) })
	if hottest == "[unknown]" && slices.ContainsFunc(m.Warnings, func(w string) bool { return strings.Contains(w, "exited before its mappings were read") }) {
		return nil // it was too quick, and the profile says so
	}
	if !slices.Contains(of.hot, hottest) {
		return fmt.Errorf("session %s has %s as its hottest function, want one of %q: %v, %s, ends %v", now.ID, hottest, of.hot, self, m.Ended, m.Ends)
	}
	if !slices.Contains(of.hot, now.Progress.Hottest) && now.State.Final() {
		return fmt.Errorf("session %s says that %q is its hottest function, want one of %q", now.ID, now.Progress.Hottest, of.hot)
	}
	return nil
}

// judged fetches the profile of a session that has ended, and judges it. One
// that is forgotten by then is none.
func (v *visitor) judged(ctx context.Context, now session.Session, of target) error {
	p, err := v.fetch(ctx, now.ID)
	if forgotten(err) {
		v.ended(v.name, "forgotten before it was fetched")
		return nil
	}
	if err != nil {
		return err
	}
	return v.judge(p, now, of)
}

// forgotten says whether a session was not known any more: few are kept here.
func forgotten(err error) bool { return errors.Is(err, session.ErrNotFound) }

// briefly is for how long a session lasts.
func (v *visitor) briefly() time.Duration {
	return 20*time.Millisecond + time.Duration(v.chance.Int64N(int64(180*time.Millisecond)))
}
