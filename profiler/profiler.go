// SPDX-License-Identifier: Apache-2.0

// Package profiler runs sessions on this host. [Record] is the whole pipeline
// in one function: find the targets, sample, collect, symbolize.
package profiler

import (
	"context"
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/symbol"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// Recorder runs sessions, any number of them at once. What one learns of files
// serves those that follow.
type Recorder struct {
	// Debug says where debug files are looked for besides the usual places.
	Debug debugfile.Options

	tables *unwind.Cache
	names  *symbol.Cache
}

// NewRecorder makes a recorder that keeps up to so many bytes of unwind tables,
// and of names, in memory from session to session.
func NewRecorder(tables int64, names int) *Recorder {
	return &Recorder{tables: unwind.NewCache(tables), names: symbol.NewCache(names)}
}

// Tables tells what is kept of unwind tables.
func (r *Recorder) Tables() unwind.CacheStats { return r.tables.Stats() }

// Record is a session by itself, see [Recorder.Record].
func Record(ctx context.Context, spec session.Spec, progress func(session.Progress)) (*profile.Profile, error) {
	return new(Recorder).Record(ctx, spec, progress)
}

// Record samples the targets of spec until its duration is over, ctx is
// canceled or the last target has exited, whichever comes first; the profile
// says which (Meta.Ended). Canceling is not an error: what was collected up to
// then is returned.
//
// progress, unless nil, is called about four times a second, between drains;
// it must not block.
//
// Errors are *session.Error where the user can do something about them. With
// session.ErrNoSamples the profile is returned too, for its metadata.
func (r *Recorder) Record(ctx context.Context, spec session.Spec, progress func(session.Progress)) (*profile.Profile, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	hurry()
	c, err := newCollector(spec, r)
	if err != nil {
		return nil, err
	}
	defer c.close()
	s, err := sampler.Open(sampler.Options{Frequency: c.meta.FrequencyHz, Targets: c.room()})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := c.sampleInto(s); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	c.started(s)
	if err := c.listen(); err != nil { // after Start: the first sample does not wait for it
		return nil, err
	}
	c.meta.Ended, err = c.collect(ctx, s, progress)
	if err != nil {
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	if err := c.stopped(); err != nil {
		return nil, err
	}
	totals, err := s.Finish(c.add)
	if err != nil {
		return nil, err
	}
	c.account(totals)
	c.symbolize()
	return c.profile()
}

// collect drains until the session ends.
func (c *collector) collect(ctx context.Context, s *sampler.Sampler, progress func(session.Progress)) (profile.Ended, error) {
	deadline := time.NewTimer(time.Until(c.meta.Start.Add(c.spec.Duration)))
	defer deadline.Stop()
	tick := time.NewTicker(s.LookInterval())
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
			return profile.EndedExited, nil
		}
		if progress != nil && time.Since(reported) >= progressInterval {
			reported = time.Now()
			if err := c.report(s, progress); err != nil {
				return "", err
			}
		}
	}
}

const progressInterval = 250 * time.Millisecond

func (c *collector) report(s *sampler.Sampler, progress func(session.Progress)) error {
	c.draining.Lock()
	totals, err := s.Totals()
	hottest := c.hottest()
	c.draining.Unlock()
	if err != nil {
		return err
	}
	progress(session.Progress{
		Elapsed: time.Since(c.meta.Start),
		Samples: totals.Samples - totals.Lost,
		Lost:    totals.Lost,
		Hottest: hottest,
	})
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
