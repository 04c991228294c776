// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// profile returns the finished profile.
func (c *collector) profile() (*profile.Profile, error) {
	p := c.builder.Profile()
	p.Meta = c.meta
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
	case used < 2*m.FrequencyHz.Period()+20*time.Millisecond:
		e.Problem = fmt.Sprintf("there are no samples because %s slept: it used %v of CPU time in %v", what, used, lasted)
		e.Remedy = "profile it while it works, for longer (--duration), or at a higher --frequency"
	default:
		e.Problem = fmt.Sprintf("there are no samples although %s used %v of CPU time in %v", what, used, lasted)
		e.Remedy = "try a longer --duration or a higher --frequency"
	}
	return e
}

// hottestInterval is how old the answer of hottest may be: finding it may mean
// to read the kernel's symbol list, which takes some 50 ms.
const hottestInterval = 2 * time.Second

// hottest names the function with the most samples of its own so far.
func (c *collector) hottest() string {
	if c.hot.name == "" || time.Since(c.hot.found) >= hottestInterval {
		c.hot.name = c.findHottest()
		c.hot.found = time.Now()
	}
	return c.hot.name
}

func (c *collector) findHottest() string {
	p := c.builder.Profile()
	self := map[profile.AddressID]uint64{}
	for i := range p.Samples {
		if s := &p.Samples[i]; len(s.Addresses) > 0 {
			self[s.Addresses[0]] += s.Count
		}
	}
	leaves := make([]profile.AddressID, 0, len(self))
	for id := range self {
		leaves = append(leaves, id)
	}
	slices.SortFunc(leaves, func(a, b profile.AddressID) int { return cmp.Compare(self[b], self[a]) })
	const enough = 64 // addresses, usually of a handful of functions
	leaves = leaves[:min(len(leaves), enough)]
	c.names.Resolve(p, leaves) // problems show at the end, when all are resolved
	byName := map[string]uint64{}
	best := ""
	for _, id := range leaves {
		a := &p.Addresses[id]
		if len(a.Frames) == 0 {
			continue
		}
		name := a.Frames[0].Name
		if byName[name] += self[id]; byName[name] > byName[best] {
			best = name
		}
		if a.Frames[0].Unknown {
			a.Frames = nil // so that the end looks again, and says why
		}
	}
	return best
}
