// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"sort"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// cover finds, for each of a sorted list of addresses, the best of a stream of
// symbols that come in any order and overlap in any way.
//
// Symbols with a size cover a range of the addresses. Were each address asked
// whether it likes the symbol better, a hostile table in which everything
// overlaps would cost symbols × addresses. Instead the addresses are the
// leaves of a segment tree: a range is cut into at most 2·log₂(addresses)
// nodes, and the symbol is offered to those; in the end an address takes the
// best of the nodes above it. That works because "better" is a total order
// that does not depend on the address: largest start, then rank.
//
// Symbols without a size reach to the next symbol, so it is enough to know the
// last one before each address and the first one after. One in the gap before
// address i is offered to slot i alone, and the slots are combined in the end.
//
// The price is 128 bytes an address.
type cover struct {
	addrs  []profile.ObjAddr
	tree   []candidate // 1 is the root; the leaf of address i is len(addrs)+i
	before []candidate // the last symbol in (addrs[i−1], addrs[i]]
	after  []profile.ObjAddr
	// underscores counts those at the start of a name. It is asked only when
	// all else is equal, because it has to read the name.
	underscores func(name uint32) int8
}

// candidate is one entry of a symbol table.
type candidate struct {
	start, limit profile.ObjAddr // of a zero-size symbol: the limit of its section
	name         uint32          // where its name is
	index        uint32          // in the table, 1 for the first; 0 means no candidate
	rank         uint8           // higher is better
	sized        bool
	underscores  int8 // −1: not yet known
}

const noAddress = ^profile.ObjAddr(0)

func newCover(addrs []profile.ObjAddr, underscores func(name uint32) int8) *cover {
	n := len(addrs)
	all := make([]candidate, 3*n)
	c := &cover{addrs: addrs, tree: all[:2*n], before: all[2*n:], after: make([]profile.ObjAddr, n), underscores: underscores}
	for i := range c.after {
		c.after[i] = noAddress
	}
	return c
}

// add offers a symbol to the addresses it may be the name of.
func (c *cover) add(s candidate) {
	n := len(c.addrs)
	first := sort.Search(n, func(i int) bool { return c.addrs[i] >= s.start })
	if first > 0 && s.start < c.after[first-1] {
		c.after[first-1] = s.start
	}
	if first == n {
		return
	}
	s.underscores = -1
	// Of those with a size it only matters that there is one: names need not be
	// read to tell which is better.
	if b := &c.before[first]; !s.sized || !b.sized || s.start != b.start {
		c.offer(b, &s)
	}
	if !s.sized || c.addrs[first] >= s.limit {
		return
	}
	last := first + sort.Search(n-first, func(i int) bool { return c.addrs[first+i] >= s.limit })
	for l, r := first+n, last+n; l < r; l, r = l/2, r/2 {
		if l%2 == 1 {
			c.offer(&c.tree[l], &s)
			l++
		}
		if r%2 == 1 {
			r--
			c.offer(&c.tree[r], &s)
		}
	}
}

// offer replaces what is in a place by s if that is better. A symbol with a
// size hides those without at the same address: it knows how far they reach.
func (c *cover) offer(place, s *candidate) {
	switch {
	case place.index == 0 || s.start > place.start:
		*place = *s
	case s.start < place.start:
	case s.sized != place.sized:
		if s.sized {
			*place = *s
		}
	case s.rank != place.rank:
		if s.rank > place.rank {
			*place = *s
		}
	default:
		if c.count(s) < c.count(place) || (s.underscores == place.underscores && s.index < place.index) {
			*place = *s
		}
	}
}

func (c *cover) count(s *candidate) int8 {
	if s.underscores < 0 {
		s.underscores = c.underscores(s.name)
	}
	return s.underscores
}

// best calls each with the address's index and the symbol it belongs to, for
// all addresses that have one, in order. It may be called once.
func (c *cover) best(each func(i int, s candidate)) {
	n := len(c.addrs)
	for i := n - 2; i >= 0; i-- {
		c.after[i] = min(c.after[i], c.after[i+1])
	}
	for i, a := range c.addrs {
		if i > 0 && c.before[i].index == 0 {
			c.before[i] = c.before[i-1]
		}
		var s candidate
		for node := i + n; node > 0; node /= 2 {
			if t := &c.tree[node]; t.index != 0 {
				c.offer(&s, t)
			}
		}
		if s.index == 0 {
			// Nothing with a size covers it. If the last symbol before it has a
			// size, that excludes it; if it has none, it reaches here.
			if s = c.before[i]; s.index == 0 || s.sized || a >= s.limit {
				continue
			}
			s.limit = min(s.limit, c.after[i])
		}
		each(i, s)
	}
}
