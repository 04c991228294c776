// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"maps"
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
	// waits for debug files. So what it found stays here, and is looked up again
	// for the profile.
	names symbol.Resolver
	known map[profile.AddressID][]profile.Frame
}

// hottest names the function with the most samples of its own so far. Nobody
// else may look for names meanwhile.
func (c *collector) hottest() string {
	if c.hot.name == "" || time.Since(c.hot.found) >= hottestInterval {
		c.hot.name = c.findHottest()
		c.hot.found = time.Now()
	}
	return c.hot.name
}

// leaves are the addresses with the most samples of their own.
type leaves struct {
	profile *profile.Profile    // has these addresses alone
	ids     []profile.AddressID // of each, in the collector's
	self    []uint64
}

func (c *collector) findHottest() string {
	l := c.leaves()
	c.hot.resolve(&l)
	if c.hot.known == nil {
		c.hot.known = map[profile.AddressID][]profile.Frame{}
	}
	byName := map[string]uint64{}
	best := ""
	for i := range l.ids {
		fs := l.profile.Addresses[i].Frames
		if len(fs) == 0 {
			continue
		}
		name := fs[0].Name
		if byName[name] += l.self[i]; byName[name] > byName[best] {
			best = name
		}
		if !fs[0].Unknown {
			c.hot.known[l.ids[i]] = fs
		}
	}
	return best
}

// leaves copies what the sampling goes on changing.
func (c *collector) leaves() leaves {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.builder.Profile()
	self := map[profile.AddressID]uint64{}
	for i := range p.Samples {
		if s := &p.Samples[i]; len(s.Addresses) > 0 {
			self[s.Addresses[0]] += s.Count
		}
	}
	const enough = 64 // addresses, usually of a handful of functions
	ids := slices.SortedFunc(maps.Keys(self), func(a, b profile.AddressID) int { return cmp.Compare(self[b], self[a]) })
	l := leaves{profile: &profile.Profile{Mappings: slices.Clone(p.Mappings)}, ids: ids[:min(len(ids), enough)]}
	for _, id := range l.ids {
		a := p.Addresses[id]
		a.Frames = c.hot.known[id]
		l.profile.Addresses = append(l.profile.Addresses, a)
		l.self = append(l.self, self[id])
	}
	return l
}

// resolve names leaves. Problems show at the end, when all are resolved. To
// name one of the kernel's means to read all of its list, so that is done only
// if it may change the answer: rarely more than once.
func (h *hot) resolve(l *leaves) {
	user, kernel := []profile.AddressID{}, []profile.AddressID{} // not nil, which means all
	var open uint64                                              // samples of the kernel's that have no name yet
	for i := range l.ids {
		a := &l.profile.Addresses[i]
		switch m := l.profile.Mapping(a.Mapping); {
		case m == nil || m.Kind != profile.MappingKernel:
			user = append(user, profile.AddressID(i))
		case len(a.Frames) == 0:
			kernel = append(kernel, profile.AddressID(i))
			open += l.self[i]
		}
	}
	h.names.Resolve(l.profile, user)
	byName := map[string]uint64{}
	var most uint64
	for i := range l.ids {
		if fs := l.profile.Addresses[i].Frames; len(fs) > 0 {
			byName[fs[0].Name] += l.self[i]
			most = max(most, byName[fs[0].Name])
		}
	}
	if open > most {
		h.names.Resolve(l.profile, kernel)
	}
}
