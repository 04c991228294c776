// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// source is what a profile is fetched from: a session, and one or all of its
// parts, as they are at one moment.
type source struct {
	whole *whole // nil if it is not in memory
	now   session.Session
	runs  []store.Run
	hosts []*host // of the runs; nil where it is not in memory
}

// Fetch yields the profile of a session, or of one host's part in it; see
// [session.Runner]. What was collected comes from the files, what is sampled
// still, from its host. The parts of several hosts are made one.
func (p *Poller) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
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
	for {
		from, err := p.source(ctx, id, want.Host)
		if err != nil {
			return nil, err
		}
		var content *session.Content
		if len(from.runs) == 1 {
			content, err = p.fetchOne(ctx, from, 0, format, want)
		} else {
			content, err = p.fetchAll(ctx, from, format, want)
		}
		if !errors.Is(err, errCollecting) {
			return content, err
		}
		if err := p.untilCollected(ctx, from); err != nil {
			return nil, err
		}
	}
}

// source finds out what there is.
func (p *Poller) source(ctx context.Context, id session.ID, host string) (*source, error) {
	from := &source{}
	p.mu.Lock()
	if w := p.inMemory(id); w != nil {
		from.whole, from.now = w, w.view()
		for _, t := range w.parts {
			from.runs, from.hosts = append(from.runs, t.run), append(from.hosts, t.host)
		}
	}
	p.mu.Unlock()
	if from.whole == nil {
		record, err := p.stored(ctx, id)
		if err != nil {
			return nil, err
		}
		from.now, from.runs = recordView(record), record.Runs
	}
	if host == "" {
		return from, nil
	}
	for i := range from.runs {
		if from.runs[i].Host == host {
			from.runs = from.runs[i : i+1]
			if from.hosts != nil {
				from.hosts = from.hosts[i : i+1]
			}
			return from, nil
		}
	}
	return nil, noSuchHost(fmt.Sprintf("%s has no part in session %s", host, id))
}

// errCollecting says that a profile is on its way here.
var errCollecting = errors.New("it is being collected")

// untilCollected waits for news of a session that goes on.
func (p *Poller) untilCollected(ctx context.Context, from *source) error {
	w, one := p.join(from.now.ID)
	if w == nil {
		return nil // it has ended
	}
	defer p.leave(w, one)
	for {
		p.mu.Lock()
		waits := false
		for i, t := range w.parts {
			for j := range from.runs {
				waits = waits || t.run.Host == from.runs[j].Host && !t.run.State.Final() && (t.run.EndedBy != "" || from.runs[j].EndedBy == "")
			}
			if t.host.away() && len(from.runs) == 1 && from.runs[0].Host == w.parts[i].run.Host {
				p.mu.Unlock()
				return &session.Error{Code: "not_collected", Kind: session.ErrUnavailable, Problem: t.view().Waiting, Remedy: "it is collected when the host is back: ask again later"}
			}
		}
		p.mu.Unlock()
		if !waits {
			return nil
		}
		select {
		case <-one.wake:
		case <-p.ctx.Done():
			return stopping()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetchOne is the profile of one part.
func (p *Poller) fetchOne(ctx context.Context, from *source, i int, format encoding.Format, want session.Want) (*session.Content, error) {
	run := &from.runs[i]
	switch {
	case run.Collected && format.Name == session.FormatPprof:
		return p.fromFile(from, run, want)
	case run.Collected:
		return p.converted(ctx, from, contentKey{from.now.ID, run.Host, format.Name}, format, want, func() (*profile.Profile, error) { return p.read(run) })
	case run.State.Final():
		return nil, orElse(cmp.Or(run.Err, from.now.Err), "no_profile", "the session ended without a profile")
	case run.EndedBy != "":
		return nil, errCollecting
	case run.ID == "":
		return nil, &session.Error{Code: "not_started", Kind: session.ErrNotReady, Problem: fmt.Sprintf("session %s waits for its turn on %s", from.now.ID, run.Host), Remedy: "watch it, or ask again later"}
	}
	return p.live(ctx, from, i, want)
}

// live is what a host has sampled so far.
func (p *Poller) live(ctx context.Context, from *source, i int, want session.Want) (*session.Content, error) {
	run, h := &from.runs[i], from.hosts[i]
	want.Host = ""
	content, err := p.fleetOf(h).Fetch(ctx, run.ID, want)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, session.ErrNotFound) {
			return nil, &session.Error{Code: "not_collected", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("%s does not know of its session any more", run.Host), Remedy: "get tells what became of it"}
		}
		return nil, p.about(ctx, h, err)
	}
	if content.Session.State.Final() { // and so it is about to be collected
		if err := content.Body.Close(); err != nil {
			return nil, err
		}
		return nil, errCollecting
	}
	told := &content.Session
	now := from.now
	now.Hosts = append([]session.HostRun{}, now.Hosts...)
	for j := range now.Hosts {
		if now.Hosts[j].Host == run.Host {
			now.Hosts[j].Progress, now.Hosts[j].State = told.Progress, told.State
			if len(told.Targets) > 0 {
				now.Hosts[j].Targets = told.Targets
			}
		}
	}
	now.State = session.StateRunning
	sum(&now)
	content.Session = now
	return content, nil
}

// fromFile is a profile as it was collected.
func (p *Poller) fromFile(from *source, run *store.Run, want session.Want) (*session.Content, error) {
	file, info, err := p.files.Open(run.Command)
	if err != nil {
		return nil, gone(run, err)
	}
	if err := fits(want, info.Size, info.Digest); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.Seek(want.Offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &session.Content{Session: from.now, Format: session.FormatPprof, Size: info.Size, Offset: want.Offset, Digest: info.Digest, Body: file}, nil
}

func gone(run *store.Run, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &session.Error{Code: "result_gone", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the profile of %s is not in the poller's files any more", run.Host), Cause: err, Remedy: "record again"}
	}
	return err
}

// fits checks what is wanted against what there is.
func fits(want session.Want, size int64, digest string) error {
	switch {
	case want.Digest != "" && want.Digest != digest:
		return session.Invalid("content_changed", "the profile that was begun to be fetched is not there any more, or was never", "fetch it again from the beginning")
	case want.Offset > size:
		return session.Invalid("bad_offset", fmt.Sprintf("byte %d is beyond the end of the profile, which has %d", want.Offset, size), "fetch it again from the beginning")
	}
	return nil
}

// read reads a profile that was collected.
func (p *Poller) read(run *store.Run) (*profile.Profile, error) {
	file, _, err := p.files.Open(run.Command)
	if err != nil {
		return nil, gone(run, err)
	}
	of, err := pprof.Read(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	switch {
	case errors.Is(err, pprof.ErrTooLarge):
		return nil, &session.Error{Code: "too_large_to_convert", Kind: session.ErrTooLarge, Problem: fmt.Sprintf("the profile of %s is too large to be converted by the poller", run.Host), Cause: err,
			Remedy: "fetch it as pprof, and convert it where there is memory for it (srprof fetch --max-profile)"}
	case err != nil:
		return nil, &session.Error{Code: "profile_unreadable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the profile of %s cannot be read", run.Host), Cause: err, Remedy: "fetch it as pprof, and see what is wrong with it"}
	}
	return of, nil
}

// converted is a profile in another form. One is made at a time, because it takes
// much more memory than it has bytes.
func (p *Poller) converted(ctx context.Context, from *source, key contentKey, format encoding.Format, want session.Want, make func() (*profile.Profile, error)) (*session.Content, error) {
	c := p.contents.get(key)
	if c == nil {
		select {
		case p.converting <- struct{}{}:
			defer func() { <-p.converting }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c = p.contents.get(key) // who was here before may have made it
	}
	if c == nil {
		of, err := make()
		if err != nil {
			return nil, err
		}
		if c, err = p.encode(key, format, of); err != nil {
			return nil, err
		}
		if key.id != "" {
			p.contents.keep(c)
		}
	}
	if err := fits(want, c.size, c.digest); err != nil {
		c.release()
		return nil, err
	}
	b := &body{SectionReader: io.NewSectionReader(c.file, 0, c.size), content: c}
	if _, err := b.Seek(want.Offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &session.Content{Session: from.now, Format: format.Name, Size: c.size, Offset: want.Offset, Digest: c.digest, Body: b}, nil
}
