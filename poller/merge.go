// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// fetchAll is the profile of all hosts in one, whose samples have their hosts.
// Hosts that have none are named in it, with the reason. Of a session that goes
// on, it is what is known so far.
func (p *Poller) fetchAll(ctx context.Context, from *source, format encoding.Format, want session.Want) (*session.Content, error) {
	var reason error
	ready := 0
	for i := range from.runs {
		switch r := &from.runs[i]; {
		case r.Collected || !r.State.Final() && r.ID != "":
			ready++
		case r.Err != nil && reason == nil:
			reason = r.Err
		}
	}
	final := from.now.State.Final()
	switch {
	case ready == 0 && !final:
		return nil, &session.Error{Code: "not_started", Kind: session.ErrNotReady, Problem: "no host of session " + string(from.now.ID) + " has begun", Remedy: "watch it, or ask again later"}
	case ready == 0 && from.now.Err != nil:
		return nil, from.now.Err
	case ready == 0:
		return nil, reason
	}
	key := contentKey{id: from.now.ID, format: format.Name}
	if !final {
		if want.Digest != "" {
			return nil, session.Invalid("content_changed", "the profile that was begun to be fetched is not there any more, or was never", "fetch it again from the beginning")
		}
		key.id = "" // it is another one a moment later
	}
	return p.converted(ctx, from, key, format, want, func() (*profile.Profile, error) { return p.merged(ctx, from) })
}

// merged reads one profile after the other.
func (p *Poller) merged(ctx context.Context, from *source) (*profile.Profile, error) {
	m := profile.NewMerger(profile.DefaultMergedSamples)
	added := 0
	var why error
	for i := range from.runs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		of, err := p.oneOf(ctx, from, i)
		if err == nil {
			err = m.Add(of, from.runs[i].Host)
		}
		if err != nil {
			if why = err; ctx.Err() == nil {
				m.Missing(from.runs[i].Host, err.Error())
			}
			continue
		}
		added++
	}
	if added == 0 {
		return nil, why
	}
	return m.Profile(), nil
}

// oneOf is what there is of one host.
func (p *Poller) oneOf(ctx context.Context, from *source, i int) (*profile.Profile, error) {
	run := &from.runs[i]
	if run.Collected {
		return p.read(run)
	}
	content, err := p.fetchOne(ctx, from, i, pprofFormat(), session.Want{})
	if errors.Is(err, errCollecting) {
		return nil, &session.Error{Code: "not_collected", Kind: session.ErrNotReady, Problem: "its profile is being collected", Remedy: "ask again later"}
	}
	if err != nil {
		return nil, err
	}
	of, err := pprof.Read(content.Body)
	if closed := content.Body.Close(); err == nil {
		err = closed
	}
	return of, err
}

// pprofFormat is the one in which profiles are kept.
func pprofFormat() encoding.Format {
	f, err := encoding.ByName(session.FormatPprof)
	if err != nil {
		panic(err) // it is a constant that is in the table
	}
	return f
}
