// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/remedy"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// started notes what is to be compared at the end with how it was when
// sampling began.
func (c *collector) started(s sampler.Sampler) {
	c.meta.Start = time.Now()
	about := s.About()
	c.meta.Event, c.meta.CPUs = about.Event, about.CPUs
	if about.Warning != "" {
		c.meta.Warn(about.Warning)
	}
	for _, t := range c.targets {
		t.look()
		t.cpuFrom = t.cpu
	}
}

// stopped does so at the moment when sampling ended. Notices are over then.
func (c *collector) stopped(why profile.Ended) error {
	c.mu.Lock()
	c.meta.Ended = why
	c.meta.DurationNs = int64(time.Since(c.meta.Start))
	c.mu.Unlock()
	err := c.drain() // while there are notices
	c.stopListening()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feeder.warning != "" {
		c.meta.Warn(c.feeder.warning)
	}
	for _, t := range c.targets {
		if stat := t.look(); t.running {
			c.ready = c.ready || stat.State == 'R'
			c.halted = c.halted || stat.State == 'T' || stat.State == 't'
		}
	}
	return err
}

// finish takes in what is left in the kernel after the end.
func (c *collector) finish() (err error) {
	c.draining.Lock()
	defer c.draining.Unlock()
	if c.failed == nil {
		c.totals, c.failed = c.sampler.Finish(c.add)
		c.finished = true
	}
	return c.failed
}

// totalsNow is what the sampler counted so far. c.draining is held.
func (c *collector) totalsNow() (sampler.Totals, error) {
	if c.finished {
		return c.totals, nil
	}
	return c.sampler.Totals()
}

// progress is how far the session is.
func (c *collector) progress() (session.Progress, error) {
	c.draining.Lock()
	defer c.draining.Unlock()
	totals, err := c.totalsNow()
	if err != nil {
		return session.Progress{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return session.Progress{
		Elapsed:   time.Since(c.meta.Start),
		Samples:   totals.Samples - totals.Lost,
		Lost:      totals.Lost,
		Truncated: c.truncated,
	}, nil
}

// metadata is what is known of the session by now. c.mu is held.
func (c *collector) metadata(totals sampler.Totals) profile.Metadata {
	m := c.meta
	m.Warnings = slices.Clone(m.Warnings)
	if m.Ended == "" {
		m.DurationNs = int64(time.Since(m.Start))
	}
	for _, t := range c.targets {
		m.CPUTimeNs += int64(max(0, t.cpu-t.cpuFrom))
	}
	m.Counts.Lost = totals.Lost
	m.Ends = map[string]uint64{}
	for end, n := range c.ends {
		m.Ends[end.String()] = n
	}
	if totals.Throttled > 0 {
		m.Warn(fmt.Sprintf("the kernel held back the CPU clock %d times because samples took it too long, so there are fewer than the CPU time used says; lower --frequency", totals.Throttled))
	}
	if totals.LostParts > 0 {
		m.Warn(fmt.Sprintf("%d samples have no kernel part: before Linux 5.4 such parts are kept by the kernel, which had no room for them", totals.LostParts))
	}
	if totals.FirstSample != 0 {
		m.FirstSample = time.Now().Add(totals.FirstSample - monotonic())
	}
	return m
}

// profile is what was sampled until the end, with names.
func (c *collector) profile() (*profile.Profile, error) {
	c.lastLists()
	c.mu.Lock()
	p := c.builder.Profile()
	p.Meta = c.metadata(c.totals)
	c.mu.Unlock()
	c.symbolize(p)
	p.Count()
	if p.Meta.Counts.Samples == 0 {
		return p, c.noSamples(&p.Meta)
	}
	return p, nil
}

func (c *collector) noSamples(m *profile.Metadata) error {
	e := &session.Error{Code: "no_samples", Kind: session.ErrNoSamples}
	what, lasted := m.Command(), m.Duration().Round(time.Millisecond)
	switch used := time.Duration(m.CPUTimeNs); {
	case m.Counts.Lost > 0:
		e.Problem = fmt.Sprintf("all %d samples of %s were lost for lack of room", m.Counts.Lost, what)
		e.Remedy = "lower --frequency"
	case used < 2*m.FrequencyHz.Period()+20*time.Millisecond && c.ready:
		e.Problem = fmt.Sprintf("there are no samples because %s waited for a CPU: others left it %v of CPU time in %v", what, used, lasted)
		e.Remedy = "see what else keeps the CPUs busy, or profile it for longer (--duration)"
	case used < 2*m.FrequencyHz.Period()+20*time.Millisecond && c.halted:
		e.Problem = fmt.Sprintf("there are no samples because %s is stopped, by a signal or a debugger: it used %v of CPU time in %v", what, used, lasted)
		e.Remedy = "profile it when it goes on; kill -CONT makes it, if nobody debugs it"
	case used < 2*m.FrequencyHz.Period()+20*time.Millisecond:
		e.Problem = fmt.Sprintf("there are no samples because %s slept: it used %v of CPU time in %v", what, used, lasted)
		e.Remedy = "profile it while it works, for longer (--duration), or at a higher --frequency"
	default:
		e.Problem = fmt.Sprintf("there are no samples although %s used %v of CPU time in %v", what, used, lasted)
		e.Remedy = "try a longer --duration or a higher --frequency"
	}
	return e
}

// symbolize finds names for what has none yet.
func (c *collector) symbolize(p *profile.Profile) {
	from := time.Now()
	names := symbol.Resolver{Open: c.object, FileID: c.fileID, Cache: c.cache, RunTime: c.runTimeCode}
	debug, err := openDebugFiles(c.place, c.debug)
	if err != nil {
		p.Meta.Warn(err.Error())
	} else {
		defer debug.close()
		names.Debug = debug.of
	}
	p.Meta.Unnamed = symbol.Unnamed(p, names.Resolve(p, nil))
	remedy.Host{}.Fill(p.Meta.Unnamed)
	for _, problem := range c.interpreted(p) {
		p.Meta.Warn(problem.String())
	}
	p.Meta.SymbolizeNs = int64(time.Since(from))
}
