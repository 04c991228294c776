// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Fetch yields the profile of a session; see [session.Runner].
func (s *Sessions) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	format, err := encoding.ByName(cmp.Or(want.Format, session.FormatPprof))
	if err != nil {
		return nil, session.Invalid("unknown_format", err.Error(), "choose one of those")
	}
	if want.Offset < 0 || want.Offset > 0 && want.Digest == "" {
		return nil, session.Invalid("bad_offset", fmt.Sprintf("a profile cannot be fetched from byte %d on", want.Offset), "say by its digest of what content that is, or fetch all of it")
	}
	s.mu.Lock()
	r, err := s.find(id)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := s.content(ctx, r, format, want.Digest)
	if err != nil {
		return nil, err
	}
	if want.Offset > c.size {
		c.release()
		return nil, session.Invalid("bad_offset", fmt.Sprintf("byte %d is beyond the end of the profile, which has %d", want.Offset, c.size), "fetch it again from the beginning")
	}
	b := &body{SectionReader: io.NewSectionReader(c.file, 0, c.size), content: c, whole: func() {
		if c.session.State.Final() {
			s.delivered(r)
		}
	}}
	if _, err := b.Seek(want.Offset, io.SeekStart); err != nil {
		return nil, err
	}
	return &session.Content{Session: c.session, Format: c.format, Size: c.size, Offset: want.Offset, Digest: c.digest, Body: b}, nil
}

// delivered notes that a profile was fetched whole.
func (s *Sessions) delivered(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.delivered = true
	select {
	case s.handedOut <- struct{}{}:
	default:
	}
}

// content is what Fetch reads, with a reference. If it is not there yet it is
// made; of each session one at a time.
func (s *Sessions) content(ctx context.Context, r *run, format encoding.Format, digest string) (*content, error) {
	s.mu.Lock()
	asked := s.made
	c := s.held(r, format.Name, digest, asked)
	s.mu.Unlock()
	for c == nil {
		select {
		case r.making <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var err error
		c, err = s.make(ctx, r, format, digest, asked)
		<-r.making
		if err != nil && !errors.Is(err, errOutdated) {
			return nil, err
		}
	}
	if digest != "" && digest != c.digest {
		c.release()
		return nil, contentChanged()
	}
	return c, nil
}

// held finds a content that is there. Of a session that goes on it must be
// later than asked, unless it is the very one that has the digest.
func (s *Sessions) held(r *run, format, digest string, asked uint64) *content {
	for _, c := range r.contents {
		if c.format == format && (digest == c.digest || digest == "" && (c.session.State.Final() || c.number > asked)) {
			c.refs.Add(1)
			return c
		}
	}
	return nil
}

// errOutdated says that the session went on while its content was made.
var errOutdated = errors.New("outdated")

// make makes a content, unless who was here before has made it.
func (s *Sessions) make(ctx context.Context, r *run, format encoding.Format, digest string, asked uint64) (*content, error) {
	s.mu.Lock()
	if c := s.held(r, format.Name, digest, asked); c != nil {
		s.mu.Unlock()
		return c, nil
	}
	s.made++
	number := s.made
	now, rec, result, err := s.material(r, format.Name, digest)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var p *profile.Profile
	if result != nil {
		defer result.release()
		p, err = s.decode(ctx, r, result)
	} else {
		p, err = s.snapshot(ctx, r, rec)
	}
	if err != nil {
		return nil, err
	}
	var c *content
	err = s.guarded(r, func() (err error) {
		c, err = s.encode(format, p, mayKeep)
		return err
	})
	if err != nil {
		return nil, asError(err)
	}
	c.number, c.session = number, now
	if result == nil {
		describeBy(&c.session, p)
	}
	if err := s.keep(r, c); err != nil {
		return nil, err
	}
	return c, nil
}

// material is what a content can be made of: the recording of a session that
// goes on, or, with a reference, the result of one that is over.
func (s *Sessions) material(r *run, format, digest string) (now session.Session, rec *Recording, result *content, err error) {
	switch now = r.view(); {
	case r.forgotten:
		return now, nil, nil, session.NotFound(now.ID)
	case now.State == session.StatePending:
		return now, nil, nil, &session.Error{Code: "not_started", Kind: session.ErrNotReady, Problem: fmt.Sprintf("session %s waits for its turn", now.ID), Remedy: "watch it, or ask again later"}
	case now.State == session.StateRunning && digest != "":
		return now, nil, nil, contentChanged()
	case now.State == session.StateRunning:
		return now, r.recording, nil, nil
	}
	for _, c := range r.contents {
		if c.format != session.FormatPprof {
			continue
		}
		if c.format == format {
			return now, nil, nil, contentChanged() // it has another digest
		}
		c.refs.Add(1)
		return now, nil, c, nil
	}
	return now, nil, nil, r.now.Err
}

func contentChanged() error {
	return session.Invalid("content_changed", "the profile that was begun to be fetched is not there any more, or was never", "fetch it again from the beginning")
}

// decode reads a result again; one at a time, because it takes much more memory
// than it has bytes.
func (s *Sessions) decode(ctx context.Context, r *run, result *content) (p *profile.Profile, err error) {
	select {
	case s.decoding <- struct{}{}:
		defer func() { <-s.decoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err = s.guarded(r, func() (err error) {
		p, err = pprof.Read(io.NewSectionReader(result.file, 0, result.size))
		return err
	})
	switch {
	case errors.Is(err, pprof.ErrTooLarge):
		return nil, &session.Error{Code: "too_large_to_convert", Kind: session.ErrTooLarge, Problem: "the profile is too large to be converted by the profiler", Cause: err,
			Remedy: "fetch it as pprof, and convert it where there is memory for it (srprof fetch --max-profile)"}
	case err != nil:
		return nil, asError(err)
	}
	return p, nil
}

// snapshot is what is known so far of a session that goes on.
func (s *Sessions) snapshot(ctx context.Context, r *run, rec *Recording) (p *profile.Profile, err error) {
	err = s.guarded(r, func() (err error) {
		p, err = rec.Snapshot(ctx)
		return err
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	select {
	case <-rec.ended: // and its result is about to be kept
		select {
		case <-r.done:
			return nil, errOutdated
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	default:
	}
	switch {
	case err != nil:
		return nil, asError(err)
	case p.Meta.Counts.Samples == 0:
		return nil, &session.Error{Code: "no_samples_yet", Kind: session.ErrNotReady, Problem: "there are no samples yet", Remedy: "watch the session, or ask again later"}
	}
	return p, nil
}

// keep keeps a content for those who ask next, and adds a reference.
func (s *Sessions) keep(r *run, c *content) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := c.session.State; now != r.now.State || r.forgotten {
		s.discard(c)
		return errOutdated
	}
	for _, old := range r.contents {
		if old.format == c.format {
			s.discardExtra(old) // an older one of a session that goes on
			break
		}
	}
	c.refs.Add(1)
	r.contents = append(r.contents, c)
	s.extra = append(s.extra, c)
	return nil
}
