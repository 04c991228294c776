// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// What the runtime prints in its tracebacks it finds in its own tables, so it
// is in stripped programs too (runtime/symtab.go and symtabinl.go read them,
// cmd/link/internal/ld/pcln.go writes them):
//
//	_func     of each function: its name, and where its tables of values by PC
//	          are: the file's number, the line, and the index of the inlined
//	          call that an instruction belongs to, −1 for none
//	cutab     of each compilation unit: from a file's number to its name
//	inltree   of each function: the calls that were inlined into it, each with
//	          its name and the parent PC, an instruction that stands for the call
//	          itself. Its file, line and index are those of the caller
//
// So the calls at an address are a walk: the innermost is what the index at the
// address says, its caller what the index at its parent PC says, and so on to
// an index of −1, the function itself.
//
// The trees are not in pclntab but in go:func.*, and _func has offsets in that.
// Where it begins only moduledata says, in a field that moves from version to
// version. So each of its words is tried on the trees of some functions: at the
// right place every call in them has a name that begins where a name begins,
// and a parent PC inside of its function. Without a place that fits there are
// no inlined calls, and no lines where one should be.
//
// Go before 1.16 had other tables of files: there, only functions have names.

// goLayout is where things are in one version's tables, in bytes.
type goLayout struct {
	fixed               int64 // of a _func, without what varies
	file, line, values  int64 // of the tables by PC, and how many more there are
	unit                int64 // of the first of its compilation unit's files
	pointers            bool  // funcdata are pointers: Go 1.16 and 1.17
	call, name, parent  int64 // size of an inlined call, and of that, name and parent PC
	unused, unusedWidth int64 // bytes of an inlined call that are always 0
}

var (
	goLayout116 = goLayout{fixed: 44, file: 24, line: 28, values: 32, unit: 36, pointers: true, call: 20, name: 12, parent: 16, unused: 3, unusedWidth: 1}
	goLayout118 = goLayout{fixed: 40, file: 20, line: 24, values: 28, unit: 32, call: 20, name: 12, parent: 16, unused: 3, unusedWidth: 1}
	goLayout120 = goLayout{fixed: 44, file: 20, line: 24, values: 28, unit: 32, call: 16, name: 4, parent: 8, unused: 1, unusedWidth: 3}
)

var goLayouts = map[uint32]*goLayout{
	object.MagicGo116: &goLayout116, object.MagicGo118: &goLayout118, object.MagicGo120: &goLayout120,
}

// Indexes of a function's tables (internal/abi/symtab.go).
const (
	goInlineIndex = 2 // PCDATA_InlTreeIndex
	goInlineTree  = 3 // FUNCDATA_InlTree
)

// Limits against tables that go in circles, or that all functions share.
const (
	maxGoCalls  = 40       // at one address; compilers stop long before
	maxGoValues = 16 << 20 // bytes of tables by PC that are read for one object,
	moreGoValue = 4 << 10  // and so many more for each address; most need some 500
)

// goReader reads what one call of Find needs.
type goReader struct {
	*pclntab
	in     *object.Blocks // the table
	data   *object.Blocks // the program's file, for trees
	values int            // bytes of tables by PC that may still be read
	out    []Call
	name   [maxName]byte
}

func newGoReader(t *pclntab, addrs int) *goReader {
	return &goReader{pclntab: t, in: object.NewBlocks(t, 4<<10), data: object.NewBlocks(t.file, 4<<10), values: maxGoValues + addrs*moreGoValue}
}

// goFunction is what _func says of a function.
type goFunction struct {
	at               int64 // of _func, in the table
	name             string
	start, limit     profile.ObjAddr
	file, line, unit uint32
	index            uint32 // table of indexes into the tree; 0 for none
	tree             uint64 // where it is: offset in go:func.*, or address
	inlines          bool   // it has a tree
}

// function reads the _func at an offset; without a name if it cannot.
func (g *goReader) function(start, limit profile.ObjAddr, at int64) goFunction {
	f := goFunction{at: at, start: start, limit: limit}
	var b [44]byte
	if g.in.Fill(b[:4], at+g.NameAt) != nil {
		return f
	}
	f.name = g.nameAt(le.Uint32(b[:]))
	l := g.layout
	if l == nil || g.in.Fill(b[:l.fixed], at) != nil {
		return f
	}
	f.file, f.line, f.unit = le.Uint32(b[l.file:]), le.Uint32(b[l.line:]), le.Uint32(b[l.unit:])
	values, datas := le.Uint32(b[l.values:]), b[l.fixed-1]
	if values <= goInlineIndex || datas <= goInlineTree {
		return f
	}
	width, data := int64(4), at+l.fixed+4*int64(values)
	if l.pointers {
		width, data = 8, at+(l.fixed+4*int64(values)+7)&^7
	}
	var index [4]byte
	var tree [8]byte
	if g.in.Fill(index[:], at+l.fixed+4*goInlineIndex) != nil || g.in.Fill(tree[:width], data+width*goInlineTree) != nil {
		return f
	}
	f.index, f.tree = le.Uint32(index[:]), le.Uint64(tree[:])
	f.inlines = f.index != 0 && f.tree != 0xffffffff
	if l.pointers {
		f.inlines = f.index != 0 && f.tree != 0
	}
	return f
}

// calls returns the calls at an address of a function, innermost first.
func (g *goReader) calls(f *goFunction, pc profile.ObjAddr) []Call {
	g.out = g.out[:0]
	for {
		c := Call{Name: f.name}
		c.File, c.Line = g.position(f, pc)
		index := int32(-1)
		if f.inlines {
			index = g.value(f, f.index, pc)
		}
		if index < 0 {
			return append(g.out, c)
		}
		name, parent := g.inlined(f, g.trees(), index)
		if name == "" || len(g.out) == maxGoCalls {
			// The position is of a call that is not known.
			return append(g.out[:0], Call{Name: f.name})
		}
		c.Name = name
		g.out = append(g.out, c)
		pc = f.start + profile.ObjAddr(parent)
	}
}

// position is the file and line of an instruction.
func (g *goReader) position(f *goFunction, pc profile.ObjAddr) (string, int) {
	if g.layout == nil {
		return "", 0
	}
	file, line := g.value(f, f.file, pc), g.value(f, f.line, pc)
	var b [4]byte
	if file < 0 || line <= 0 || g.in.Fill(b[:], g.Units+4*(int64(f.unit)+int64(file))) != nil {
		return "", 0
	}
	offset := le.Uint32(b[:])
	if offset == 0xffffffff {
		return "", 0
	}
	path := readName(g.in, g.Files+int64(offset), &g.name)
	if path == "" {
		return "", 0
	}
	return path, int(line)
}

// inlined reads a call of a function's tree; no name if it is not a valid one.
func (g *goReader) inlined(f *goFunction, base profile.ObjAddr, index int32) (name string, parent uint32) {
	l := g.layout
	if g.file == nil || base == 0 && !l.pointers {
		return "", 0
	}
	var b [20]byte
	at, ok := offsetIn(g.file, uint64(base)+f.tree+uint64(index)*uint64(l.call))
	if !ok || g.data.Fill(b[:l.call], at) != nil {
		return "", 0
	}
	for _, c := range b[l.unused : l.unused+l.unusedWidth] {
		if c != 0 {
			return "", 0
		}
	}
	parent = le.Uint32(b[l.parent:])
	if uint64(parent) >= uint64(f.limit-f.start) {
		return "", 0
	}
	offset := le.Uint32(b[l.name:])
	var before [1]byte // names begin where others end
	if offset > 0 && (g.in.Fill(before[:], g.Names+int64(offset)-1) != nil || before[0] != 0) {
		return "", 0
	}
	return g.nameAt(offset), parent
}

func (g *goReader) nameAt(offset uint32) string {
	return readName(g.in, g.Names+int64(offset), &g.name)
}

// value reads a table of values by PC: pairs of the value's change and how far
// it holds, both in encoding/binary's form of variable length, the first zigzag.
func (g *goReader) value(f *goFunction, table uint32, pc profile.ObjAddr) int32 {
	if table == 0 {
		return -1
	}
	value, end := int32(-1), f.start
	at := g.PCTab + int64(table)
	for first := true; g.values > 0; first = false {
		change, n := g.in.Uvarint(at)
		if n == 0 || change == 0 && !first {
			break
		}
		length, m := g.in.Uvarint(at + n)
		if m == 0 {
			break
		}
		at += n + m
		g.values -= int(n + m)
		value += int32(change>>1) ^ -int32(change&1)
		end += profile.ObjAddr(length) * profile.ObjAddr(g.Quantum)
		if pc < end {
			return value
		}
	}
	return -1
}

// trees returns where go:func.* begins; 0 if that cannot be proved.
func (g *goReader) trees() profile.ObjAddr {
	if g.sought || g.layout.pointers || g.file == nil {
		return g.base
	}
	g.sought = true
	words, err := g.file.GoModule()
	if err != nil { // then it is not known
		return 0
	}
	witnesses := g.witnesses()
	for _, w := range words {
		if w != 0 && g.fit(witnesses, w) {
			g.base = w
			break
		}
	}
	return g.base
}

// A witness is a function with a tree, and one of the indexes into it.
type witness struct {
	goFunction
	index int32
}

// How many witnesses are heard: each rules out a wrong place by itself, but for
// some chance.
const (
	goWitnesses = 24
	goSearched  = 4096 // functions, until there are so many
)

// witnesses takes functions with trees from the start of the table.
func (g *goReader) witnesses() []witness {
	var found []witness
	var pair, after [16]byte
	width := 2 * g.Width
	for i := range min(g.Count, goSearched) {
		// Behind the last pair is one more entry, then the first _func.
		at := g.Functab + i*int64(width)
		if len(found) == goWitnesses || g.in.Fill(pair[:width], at) != nil || g.in.Fill(after[:width], at+int64(width)) != nil {
			break
		}
		start, function := g.Pair(pair[:])
		limit, _ := g.Pair(after[:])
		if limit <= start || function > uint64(g.Size()) {
			continue
		}
		f := g.function(start, limit, g.Functions+int64(function))
		if !f.inlines {
			continue
		}
		for pc := start; pc < limit && pc < start+1024; pc += profile.ObjAddr(max(g.Quantum, 4)) {
			if index := g.value(&f, f.index, pc); index >= 0 {
				found = append(found, witness{f, index})
				break
			}
		}
	}
	return found
}

// fit says whether all witnesses agree that go:func.* begins at base.
func (g *goReader) fit(witnesses []witness, base profile.ObjAddr) bool {
	for i := range witnesses {
		if name, _ := g.inlined(&witnesses[i].goFunction, base, witnesses[i].index); name == "" {
			return false
		}
	}
	return len(witnesses) > 0
}

// offsetIn returns where in a file the byte of an object address is.
func offsetIn(f *object.File, a uint64) (int64, bool) {
	for i := range f.Segments() {
		s := &f.Segments()[i]
		if start := uint64(s.ObjAddr); a >= start && a-start < uint64(s.FileSize) {
			return s.Offset + int64(a-start), true
		}
	}
	return 0, false
}
