// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// hottestInterval is how old the answer of hottest may be: finding it may mean
// to read the kernel's symbol list, which takes some 50 ms.
const hottestInterval = 2 * time.Second

// hot is the latest answer of hottest, and what was looked up for it.
type hot struct {
	name  string
	found time.Time
	// names looks into the objects alone, because while sampling goes on nobody
	// waits for debug files. So what it found is looked up again at the end.
	names symbol.Resolver
	user  map[profile.AddressID]bool
}

// forget takes the names out of the profile that may be better.
func (h *hot) forget(p *profile.Profile) {
	for id := range h.user {
		p.Addresses[id].Frames = nil
	}
	h.user = nil
}

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
	if c.hot.user == nil {
		c.hot.user = map[profile.AddressID]bool{}
	}
	c.resolveHot(p, leaves, self)
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
		switch m := p.Mapping(a.Mapping); {
		case a.Frames[0].Unknown:
			a.Frames = nil // so that the end looks again, and says why
		case m != nil && m.Kind != profile.MappingKernel:
			c.hot.user[id] = true
		}
	}
	return best
}

// resolveHot names leaves. Problems show at the end, when all are resolved. To
// name one of the kernel's means to read all of its list, so that is done only
// if it may change the answer: rarely more than once.
func (c *collector) resolveHot(p *profile.Profile, leaves []profile.AddressID, self map[profile.AddressID]uint64) {
	user, kernel := []profile.AddressID{}, []profile.AddressID{} // not nil, which means all
	var open uint64                                              // samples of the kernel's that have no name yet
	for _, id := range leaves {
		a := &p.Addresses[id]
		switch m := p.Mapping(a.Mapping); {
		case m == nil || m.Kind != profile.MappingKernel:
			user = append(user, id)
		case len(a.Frames) == 0:
			kernel = append(kernel, id)
			open += self[id]
		}
	}
	c.hot.names.Resolve(p, user)
	byName := map[string]uint64{}
	var most uint64
	for _, id := range leaves {
		if fs := p.Addresses[id].Frames; len(fs) > 0 {
			byName[fs[0].Name] += self[id]
			most = max(most, byName[fs[0].Name])
		}
	}
	if open > most {
		c.hot.names.Resolve(p, kernel)
	}
}
