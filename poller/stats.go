// SPDX-License-Identifier: Apache-2.0

package poller

import "github.com/carverauto/serviceradar-profiler/session"

// Stats are counts for who watches a poller.
type Stats struct {
	Hosts       map[session.HostState]int
	Runs        map[session.State]int // hosts' parts of sessions that have not ended, or ended just now
	StoreErrors uint64                // what could not be written into the store, since the start
	Collected   uint64                // bytes of profiles, since the start
}

// Stats counts. It asks nobody.
func (p *Poller) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Hosts: map[session.HostState]int{}, Runs: map[session.State]int{}, StoreErrors: p.storeErrors, Collected: p.collected}
	for _, h := range p.hosts {
		s.Hosts[h.state]++
	}
	for _, w := range p.wholes {
		for _, t := range w.parts {
			s.Runs[t.run.State]++
		}
	}
	return s
}
