// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
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
