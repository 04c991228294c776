// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Recording is one session in steps: [Recorder.Open], Start, Run, Close, in
// this order and from one goroutine. What others may call meanwhile says so.
type Recording struct {
	recorder *Recorder
	c        *collector
	s        sampler.Sampler

	// naming is held, by a value in it, while names are looked for: what finds
	// them is not made for two at once. Before all locks of the collector.
	naming chan struct{}
	ending atomic.Bool   // sampling is over: snapshots wait for what Run returns
	ended  chan struct{} // closed when Run has returned
	result *profile.Profile
	err    error

	close  sync.Once
	closed chan struct{}
}

// Open finds the targets of a spec and prepares to sample them. Errors are
// *session.Error where the user can do something about them.
func (r *Recorder) Open(spec session.Spec) (*Recording, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	hurry()
	c, err := newCollector(spec, r)
	if err != nil {
		return nil, err
	}
	s, err := r.spare.take(sampler.Options{Targets: c.room(), Children: spec.Children, Tables: r.kernel})
	if err != nil {
		c.close()
		return nil, cannotSample{err}
	}
	r.idle.begin()
	return &Recording{recorder: r, c: c, s: s, naming: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{})}, nil
}

// cannotSample is an error about this host: other targets would have it too.
type cannotSample struct{ error }

func (e cannotSample) Unwrap() error { return e.error }

// Start begins to sample; sampling is on when it returns. Run has to follow at
// once: until then nobody hears of forks, and nobody drains.
func (r *Recording) Start() error {
	if err := r.c.sampleInto(r.s); err != nil {
		return err
	}
	if err := r.c.permitted(); err != nil {
		return err
	}
	if err := r.s.Start(r.c.meta.FrequencyHz); err != nil {
		return cannotSample{err}
	}
	r.c.started(r.s)
	r.recorder.spare.another()
	return nil
}

// Targets are the processes that were there at the beginning. Any goroutine
// may ask.
func (r *Recording) Targets() []profile.Target { return r.c.meta.Targets }

// Started is when sampling began. Any goroutine may ask, after Start.
func (r *Recording) Started() time.Time { return r.c.meta.Start }

// Run collects until the session ends, as [Recorder.Record] says it, and finds
// names for what was sampled.
func (r *Recording) Run(ctx context.Context, progress func(session.Progress)) (*profile.Profile, error) {
	defer close(r.ended)
	r.result, r.err = r.run(ctx, progress)
	return r.result, r.err
}

func (r *Recording) run(ctx context.Context, progress func(session.Progress)) (*profile.Profile, error) {
	if err := r.c.listen(); err != nil { // after Start: the first sample does not wait for it
		return nil, err
	}
	ended, err := r.collect(ctx, progress)
	if err != nil {
		return nil, err
	}
	if err := r.s.Stop(); err != nil {
		return nil, err
	}
	r.ending.Store(true)
	if err := r.c.stopped(ended); err != nil {
		return nil, err
	}
	if err := r.c.finish(); err != nil {
		return nil, err
	}
	r.naming <- struct{}{} // waits for one snapshot at most
	defer func() { <-r.naming }()
	return r.c.profile()
}

// Close gives everything back that the session had, at any time after Open but
// while Run goes on. A snapshot under way ends first.
func (r *Recording) Close() {
	r.close.Do(func() {
		r.naming <- struct{}{}
		close(r.closed)
		r.c.close()
		r.s.Close()                //nolint:errcheck // of descriptors that are ours
		r.recorder.spare.another() // if it was not started
		r.recorder.idle.end()
		r.recorder.tidyLater()
		<-r.naming
	})
}

// collect drains until the session ends.
func (r *Recording) collect(ctx context.Context, progress func(session.Progress)) (profile.Ended, error) {
	c := r.c
	deadline := time.NewTimer(time.Until(c.meta.Start.Add(c.spec.Duration)))
	defer deadline.Stop()
	tick := time.NewTicker(r.s.LookInterval())
	defer tick.Stop()
	var reported time.Time
	for {
		select {
		case <-ctx.Done():
			return profile.EndedInterrupted, nil
		case <-deadline.C:
			return profile.EndedDuration, nil
		case <-tick.C:
		}
		drained, err := c.drainIfDue()
		if err != nil {
			return "", err
		}
		if !c.anyRunning(drained) {
			return c.overBecause(), nil
		}
		if progress != nil && time.Since(reported) >= progressInterval {
			reported = time.Now()
			if err := r.report(progress); err != nil {
				return "", err
			}
		}
	}
}

const progressInterval = 250 * time.Millisecond

func (r *Recording) report(progress func(session.Progress)) error {
	p, err := r.c.progress()
	if err != nil {
		return err
	}
	select {
	case r.naming <- struct{}{}:
		p.Hottest = r.c.hottest()
		<-r.naming
	default: // a snapshot looks for names: the old answer does
		p.Hottest = r.c.hot.name
	}
	progress(p)
	return nil
}

// frequency is what was asked for, lowered to the kernel's own limit.
func frequency(asked profile.Frequency, meta *profile.Metadata) profile.Frequency {
	limit := sampler.MaxFrequency()
	if asked <= limit {
		return asked
	}
	meta.Warn(fmt.Sprintf("the kernel allows at most %d Hz at the moment (sysctl kernel.perf_event_max_sample_rate), so sampling ran at that instead of %d Hz", limit, asked))
	return limit
}
