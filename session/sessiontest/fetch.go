// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// decoded is a profile that was fetched.
func (s *suite) decoded(b []byte) *profile.Profile {
	s.Helper()
	p, err := pprof.Read(bytes.NewReader(b))
	if err != nil {
		s.Fatalf("what was fetched is no profile: %v", err)
	}
	return p
}

func (s *suite) rightDigest(c *session.Content, b []byte) {
	s.Helper()
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != c.Digest {
		s.Errorf("the digest is %s, said to be %s", got, c.Digest)
	}
}

// Of a session that goes on, there is what is known so far; later there is more.
func (s *suite) fetchRunning() {
	first := s.start(s.spec(s.MaxDuration, s.Busy(s)))
	var before uint64
	for n := 0; n < 3; {
		c, err := s.Runner.Fetch(s.Context(), first.ID, session.Want{})
		if errors.Is(err, session.ErrNotReady) && before == 0 {
			time.Sleep(10 * time.Millisecond)
			continue // there are no samples yet
		}
		if err != nil {
			s.Fatal(err)
		}
		b, err := read(c)
		if err != nil {
			s.Fatal(err)
		}
		s.rightDigest(c, b)
		samples := s.decoded(b).Meta.Counts.Samples
		if c.Session.State != session.StateRunning || samples < before || samples != c.Session.Progress.Samples {
			s.Fatalf("%d samples after %d, of %+v", samples, before, c.Session)
		}
		if samples > before {
			n++ // of three profiles, each has more than the one before
		}
		before = samples
	}
	last, err := s.Runner.Cancel(s.Context(), first.ID)
	if err != nil || last.Progress.Samples < before {
		s.Errorf("in the end there are %d samples, before that %d: %v", last.Progress.Samples, before, err)
	}
}

// The profile of a session that has ended stays the same.
func (s *suite) fetchEnded() {
	last := s.succeeded()
	c, b := s.fetched(last.ID, session.Want{})
	s.rightDigest(c, b)
	if c.Format != session.FormatPprof || c.Offset != 0 || c.Session.State != session.StateSucceeded || c.Session.ID != last.ID || c.Session.Progress != last.Progress {
		s.Errorf("the content is %+v", c)
	}
	p := s.decoded(b)
	if fs := p.Functions(); len(fs) == 0 || fs[0].Name != s.Hottest {
		s.Errorf("the hottest function is not %s: %+v", s.Hottest, fs[:min(3, len(fs))])
	}
	if last.Progress.Hottest != s.Hottest {
		s.Errorf("by the session's progress the hottest function is %s", last.Progress.Hottest)
	}
	if p.Meta.Counts.Samples != last.Progress.Samples || p.Meta.Counts.Lost != last.Progress.Lost || p.Meta.FrequencyHz != last.Spec.Frequency {
		s.Errorf("the profile says %+v, the session %+v", p.Meta.Counts, last.Progress)
	}
	again, same := s.fetched(last.ID, session.Want{Format: session.FormatPprof})
	if again.Digest != c.Digest || !bytes.Equal(same, b) {
		s.Errorf("fetched again it is another one: %s, %s", again.Digest, c.Digest)
	}
}

// A fetch that was cut goes on where it was.
func (s *suite) resume() {
	first := s.succeeded()
	for _, format := range []string{"", "folded"} {
		whole, all := s.fetched(first.ID, session.Want{Format: format})
		for _, offset := range []int64{0, 1, whole.Size / 2, whole.Size - 1, whole.Size} {
			c, rest := s.fetched(first.ID, session.Want{Format: format, Offset: offset, Digest: whole.Digest})
			if c.Offset != offset || c.Size != whole.Size || c.Digest != whole.Digest || !bytes.Equal(rest, all[offset:]) {
				s.Errorf("%q from %d on: %+v", format, offset, c)
			}
		}
		for what, bad := range map[string]struct {
			want session.Want
			code string
		}{
			"another digest":        {session.Want{Format: format, Offset: 1, Digest: strings.Repeat("0", 64)}, "content_changed"},
			"no digest":             {session.Want{Format: format, Offset: 1}, "bad_offset"},
			"a negative offset":     {session.Want{Format: format, Offset: -1, Digest: whole.Digest}, "bad_offset"},
			"an offset beyond":      {session.Want{Format: format, Offset: whole.Size + 1, Digest: whole.Digest}, "bad_offset"},
			"another digest from 0": {session.Want{Format: format, Digest: strings.Repeat("0", 64)}, "content_changed"},
		} {
			_, err := s.Runner.Fetch(s.Context(), first.ID, bad.want)
			s.wants(what, err, session.ErrInvalid, bad.code)
		}
	}
	// Half of it was read, and nobody comes back for the rest.
	c, err := s.Runner.Fetch(s.Context(), first.ID, session.Want{})
	if err != nil {
		s.Fatal(err)
	}
	if _, err := c.Body.Read(make([]byte, c.Size/2)); err != nil {
		s.Error(err)
	}
	if err := c.Body.Close(); err != nil {
		s.Error(err)
	}
}

// Any format can be had, of a session that has ended and of one that goes on.
func (s *suite) formats() {
	first := s.succeeded()
	var known []string
	for _, f := range encoding.Formats() {
		known = append(known, f.Name)
		c, b := s.fetched(first.ID, session.Want{Format: f.Name})
		s.rightDigest(c, b)
		if c.Format != f.Name || len(b) == 0 {
			s.Errorf("%s: %+v", f.Name, c)
		}
		if again, _ := s.fetched(first.ID, session.Want{Format: f.Name}); again.Digest != c.Digest {
			s.Errorf("%s is another one when it is fetched again", f.Name)
		}
	}
	_, b := s.fetched(first.ID, session.Want{Format: "folded"})
	s.hotLines(b)

	goesOn := s.start(s.spec(s.MaxDuration, s.Busy(s)))
	s.until(goesOn.ID, sampledWell)
	c, b := s.fetched(goesOn.ID, session.Want{Format: "folded"})
	s.hotLines(b)
	if c.Session.State != session.StateRunning {
		s.Errorf("%+v", c)
	}
	_, err := s.Runner.Fetch(s.Context(), first.ID, session.Want{Format: "pdf"})
	e := s.wants("a format that there is not", err, session.ErrInvalid, "unknown_format")
	for _, name := range known {
		if !strings.Contains(e.Error(), name) {
			s.Errorf("%q does not name %s", e.Error(), name)
		}
	}
}

// hotLines wants folded lines most of which end in the hottest function.
func (s *suite) hotLines(b []byte) {
	s.Helper()
	lines, err := folded.Parse(bytes.NewReader(b))
	if err != nil {
		s.Fatal(err)
	}
	self := map[string]uint64{}
	best := ""
	for _, l := range lines {
		leaf := l.Frames[len(l.Frames)-1]
		if self[leaf] += l.Count; self[leaf] > self[best] {
			best = leaf
		}
	}
	if best != s.Hottest {
		s.Errorf("the hottest function is %s, want %s: %v", best, s.Hottest, self)
	}
}
