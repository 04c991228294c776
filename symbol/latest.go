// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"slices"
	"sort"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// written is an entry of a list that grows while code is made: where it is in
// the file, and the range it names. Its name is read only if it is needed.
type written struct {
	at           int64 // offset of the entry, plus 1; 0: there is none
	start, limit profile.ObjAddr
}

// latest finds, for each of a sorted list of addresses, the last of a stream
// of ranges that covers it: where code is replaced, what was written later is
// what is there now.
//
// As in cover, the addresses are the leaves of a segment tree and a range goes
// to at most 2·log₂(addresses) nodes, so that ranges which all cover
// everything cost no more than others. Since the stream is in order, a node
// just keeps the newest. The price is 48 bytes an address.
type latest struct {
	addrs []profile.ObjAddr
	tree  []written // 1 is the root; the leaf of address i is len(addrs)+i
}

func newLatest(addrs []profile.ObjAddr) *latest {
	return &latest{addrs, make([]written, 2*len(addrs))}
}

// add notes the next range.
func (l *latest) add(w written) {
	n := len(l.addrs)
	if n == 0 || w.start >= w.limit || l.addrs[n-1] < w.start || w.limit <= l.addrs[0] {
		return
	}
	first := sort.Search(n, func(i int) bool { return l.addrs[i] >= w.start })
	if first == n || l.addrs[first] >= w.limit {
		return
	}
	last := first + sort.Search(n-first, func(i int) bool { return l.addrs[first+i] >= w.limit })
	for a, b := first+n, last+n; a < b; a, b = a/2, b/2 {
		if a%2 == 1 {
			l.tree[a] = w
			a++
		}
		if b%2 == 1 {
			b--
			l.tree[b] = w
		}
	}
}

// of is the last range that covers address i.
func (l *latest) of(i int) (w written) {
	for node := i + len(l.addrs); node > 0; node /= 2 {
		if l.tree[node].at > w.at {
			w = l.tree[node]
		}
	}
	return w
}

// answers are what is known of addresses from the parts of a file that were
// read so far.
type answers struct {
	addrs   []profile.ObjAddr // sorted, each once
	entries []written         // of each
}

// missing returns the addresses, which are sorted, that there is no answer for.
func (a *answers) missing(addrs []profile.ObjAddr) []profile.ObjAddr {
	var out []profile.ObjAddr
	for _, addr := range addrs {
		if _, ok := slices.BinarySearch(a.addrs, addr); !ok {
			out = append(out, addr)
		}
	}
	return out
}

// of is the answer for an address.
func (a *answers) of(addr profile.ObjAddr) written {
	i, ok := slices.BinarySearch(a.addrs, addr)
	if !ok {
		return written{}
	}
	return a.entries[i]
}

// insert adds addresses that were missing.
func (a *answers) insert(l *latest) {
	if len(l.addrs) == 0 {
		return
	}
	all := make([]profile.ObjAddr, 0, len(a.addrs)+len(l.addrs))
	entries := make([]written, 0, cap(all))
	for i, j := 0, 0; i < len(a.addrs) || j < len(l.addrs); {
		if j == len(l.addrs) || (i < len(a.addrs) && a.addrs[i] < l.addrs[j]) {
			all, entries = append(all, a.addrs[i]), append(entries, a.entries[i])
			i++
			continue
		}
		all, entries = append(all, l.addrs[j]), append(entries, l.of(j))
		j++
	}
	a.addrs, a.entries = all, entries
}

// update replaces what newer entries say of the known addresses.
func (a *answers) update(l *latest) {
	for i := range a.addrs {
		if w := l.of(i); w.at > 0 {
			a.entries[i] = w
		}
	}
}
