// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"slices"
	"sort"
	"strings"
)

// scopes are the namespaces and types of one unit that have something in them.
// They qualify the few names that have no linkage name: those of C++ that are
// as in C, and those of languages without. An entry does not say what it is in,
// so the unit is walked for it, once.
type scopes struct {
	unit place
	all  []scope // in the order of the unit

	walked *tree // of the unit at hand, which is in memory
}

type scope struct {
	start, end int64 // in .debug_info
	parent     int32 // index, −1 for none
}

// maxScopes bounds scopes, to 6 MB.
const maxScopes = 1 << 18

// around returns the names of what the entry at a place is in, outermost first.
func (n *names) around(u *unit, off int64) ([]string, error) {
	if here := (place{u.file, u.off}); n.scopes.unit != here {
		n.scopes.all, n.scopes.unit = n.scopes.all[:0], here
		if err := n.scopes.read(u, n.budget); err != nil {
			return nil, err
		}
	}
	all := n.scopes.all
	i := int32(sort.Search(len(all), func(i int) bool { return all[i].start >= off })) - 1
	for i >= 0 && all[i].end <= off {
		i = all[i].parent
	}
	var around []string
	for ; i >= 0; i = all[i].parent {
		name, err := n.simple(place{u.file, all[i].start})
		if err != nil {
			return nil, err
		}
		around = append(around, name)
	}
	slices.Reverse(around)
	return around, nil
}

// simple returns the plain name of a namespace or type.
func (n *names) simple(p place) (string, error) {
	if s, ok := n.known[p]; ok {
		return s, nil
	}
	e, err := readEntry(p)
	if err != nil {
		return "", err
	}
	if e.name == "" { // others without a name are not walked into
		e.name = "(anonymous namespace)"
	}
	n.remember(p, e.name)
	return e.name, nil
}

// read walks a unit.
func (s *scopes) read(u *unit, budget *budget) (err error) {
	b := s.walked.b
	if w := s.walked.unit; w == nil || w.file != u.file || w.off != u.off {
		var buffer []byte // not kept: this is seldom needed
		if b, err = u.file.info.load(&buffer, u.off, u.end-u.off, maxUnit); err != nil {
			return err
		}
	}
	t := tree{unit: u, b: b, budget: budget}
	if t.table, err = u.table(); err != nil {
		return err
	}
	c := cursor{B: b, Pos: int(u.dies - u.off)}
	var levels []level
	for c.Pos < len(b) && budget.spend(1) {
		at := c.Pos
		code := c.ULEB()
		if code == 0 {
			if len(levels) > 0 {
				if l := levels[len(levels)-1]; l.own {
					s.all[l.scope].end = u.off + int64(c.Pos)
				}
				levels = levels[:len(levels)-1]
			}
			if len(levels) == 0 {
				return nil
			}
			continue
		}
		a := t.table.find(code)
		if a == nil {
			return u.file.info.wrong("entry", u.off+int64(at))
		}
		sibling := t.other(&c, a)
		if c.Bad || len(levels) > maxDepth || len(s.all) >= maxScopes {
			return u.file.info.wrong("entry", u.off+int64(at))
		}
		in := level{scope: -1}
		if len(levels) > 0 {
			in.scope = levels[len(levels)-1].scope
		}
		switch {
		case len(levels) == 0 && !a.children:
			return nil
		case !a.children:
			continue
		case len(levels) > 0 && a.qualifies():
			s.all = append(s.all, scope{start: u.off + int64(at), parent: in.scope})
			in = level{int32(len(s.all) - 1), true}
		case len(levels) > 0 && sibling > c.Pos && sibling <= len(b):
			c.Pos = sibling
			continue
		}
		levels = append(levels, in)
	}
	return nil
}

// level is what entries of one level are in: a scope that begins with the level,
// or one further out.
type level struct {
	scope int32
	own   bool
}

// qualifies says whether an entry's name stands before those of what is in it.
func (a *abbrev) qualifies() bool {
	switch a.tag {
	case tagNamespace, tagModule:
		return true
	case tagClassType, tagStructureType, tagUnionType, tagEnumerationType, tagInterfaceType:
		return slices.ContainsFunc(a.attrs, func(x attr) bool { return x.name == attrName })
	}
	return false
}

func qualified(around []string, name string) string {
	s := strings.Join(append(around, name), "::")
	return s[max(0, len(s)-maxString):]
}
