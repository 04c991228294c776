// SPDX-License-Identifier: Apache-2.0

package dwarf

// maxHops bounds a chain of entries that refer to others: an inlined call to
// its function, that to its declaration. Three are usual.
const maxHops = 16

// entry is what an entry says about its name.
type entry struct {
	unit          *unit
	off           int64
	linkage, name string
	origin, spec  place
}

// names finds functions' names and remembers them for the length of a search.
type names struct {
	known  map[place]string
	size   int
	scopes scopes
	budget *budget
	err    error // the first
}

// maxNames bounds what is remembered, in bytes.
const maxNames = 2 << 20

// of returns the name of the function at a place; "" if it has none.
func (n *names) of(p place) string {
	if p.file == nil {
		return ""
	}
	if s, ok := n.known[p]; ok {
		return s
	}
	s, err := n.find(p)
	if n.err == nil {
		n.err = err
	}
	n.remember(p, s)
	return s
}

func (n *names) remember(p place, s string) {
	n.size += len(s) + 64 // and the map's own
	if n.known == nil || n.size > maxNames {
		n.known, n.size = map[place]string{}, 0
	}
	n.known[p] = s
}

// find follows the references of an entry until one of them has a linkage
// name. If none has, the first plain name is it, with the names of what the
// function was declared in before it.
func (n *names) find(p place) (string, error) {
	plain := ""
	var last entry
	for range maxHops {
		if !n.budget.spend(workOfEntry) {
			break
		}
		e, err := readEntry(p)
		if err != nil {
			return plain, err
		}
		if e.linkage != "" {
			return e.linkage, nil
		}
		if plain == "" {
			plain = e.name
		}
		last = e
		if p = e.origin; p.file == nil {
			p = e.spec
		}
		if p.file == nil {
			break
		}
	}
	if plain == "" || last.unit == nil || flatLanguage(last.unit.language) {
		return plain, nil
	}
	around, err := n.around(last.unit, last.off)
	return qualified(around, plain), err
}

// readEntry reads the attributes of the entry at a place.
func readEntry(p place) (entry, error) {
	u, err := p.file.unitAt(p.off)
	if err != nil {
		return entry{}, err
	}
	t, err := u.table()
	if err != nil {
		return entry{}, err
	}
	for n := int64(256); ; n *= 16 {
		n = min(n, u.end-p.off)
		c := cursor{B: u.file.info.at(p.off, int(n))}
		e, ok := u.entry(&c, t, p.off)
		if ok {
			return e, nil
		}
		if n == u.end-p.off || n > maxEntry {
			return entry{}, u.file.info.wrong("entry", p.off)
		}
	}
}

// workOfEntry is what reading one entry by itself costs, beside getting past one.
const workOfEntry = 50

// maxEntry bounds one entry, in bytes.
const maxEntry = 64 << 10

func (u *unit) entry(c *cursor, t *abbrevs, off int64) (entry, bool) {
	e := entry{unit: u, off: off}
	a := t.find(c.ULEB())
	if a == nil {
		return e, false
	}
	var linkage, name value
	for _, x := range a.attrs {
		switch x.name {
		case attrLinkageName, attrMIPSLinkageName:
			linkage = u.value(c, x)
		case attrName:
			name = u.value(c, x)
		case attrAbstractOrigin:
			e.origin, _ = u.reference(u.value(c, x))
		case attrSpecification:
			e.spec, _ = u.reference(u.value(c, x))
		default:
			u.pass(c, x.form)
		}
	}
	if c.Bad {
		return e, false
	}
	// Now, and not before: reading strings takes the window of the entry, if
	// they are in the same section of a broken file.
	if linkage.form != 0 {
		e.linkage = u.string(linkage)
	}
	if e.linkage == "" && name.form != 0 {
		e.name = u.string(name)
	}
	return e, true
}
