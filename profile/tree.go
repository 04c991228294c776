// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"cmp"
	"slices"
)

// Node is one function in the call tree, reached by one path from the root.
// Total is the samples of all paths through it, Self of those that end in it.
type Node struct {
	Name     string
	Kind     FrameKind
	Object   string   // short name of the object it is in; the first seen, where several have the same function
	Also     []string // the others
	File     string   // the source file, "" if not known; the first seen
	First    int      // line in it that samples went through: the first
	Last     int      // and the last; 0 if not known
	Self     uint64
	Total    uint64
	Inlined  uint64  // of Total: inlined into its caller
	Children []*Node // sorted by name, then kind, so that two drawings line up

	index map[nodeKey]*Node // while the tree is built
}

type nodeKey struct {
	name string
	kind FrameKind
}

// Tree merges all stacks into one call tree. Its root is called "all"; below
// it is a node for each thread name, then the frames, root first.
func (p *Profile) Tree() *Node {
	root := &Node{Name: "all", Kind: FrameThread}
	var path []Step
	for i := range p.Samples {
		s := &p.Samples[i]
		path = p.AppendPath(path[:0], s)
		root.Total += s.Count
		n := root
		for _, st := range path {
			n = n.child(st)
			n.Total += s.Count
			n.add(&st, s.Count)
		}
		n.Self += s.Count
	}
	root.finish()
	return root
}

// Step is one step of the path from a tree's root to a leaf.
type Step struct {
	Name   string
	Kind   FrameKind
	Object string
	// File and Line are of the call that was going on, or of the code itself in
	// the leaf; see [Frame].
	File    string
	Line    int
	Inlined bool // into the step before
}

// AppendPath appends the path of a sample, root first: the thread's name, then
// its frames; before them the host, in what [Profile.ByHost] returns. It is what
// folded lines, trees and drawings have in common.
func (p *Profile) AppendPath(path []Step, s *Sample) []Step {
	if p.byHost {
		path = append(path, Step{Name: cmp.Or(s.Host, p.Meta.Host, "[unknown]"), Kind: FrameHost})
	}
	comm := s.Comm
	if comm == "" {
		comm = "[unknown]"
	}
	path = append(path, Step{Name: comm, Kind: FrameThread})
	first := len(path)
	for a, f := range p.Frames(s) {
		var object string
		if m := p.Mapping(a.Mapping); m != nil {
			object = m.Object()
		}
		// All but the outermost frame of an address were inlined into it.
		inlined := len(a.Frames) > 1 && f != &a.Frames[len(a.Frames)-1]
		path = append(path, Step{f.Name, f.Kind, object, f.File, f.Line, inlined})
	}
	slices.Reverse(path[first:])
	return path
}

func (n *Node) child(st Step) *Node {
	k := nodeKey{st.Name, st.Kind}
	c, ok := n.index[k]
	if !ok {
		if n.index == nil {
			n.index = map[nodeKey]*Node{}
		}
		c = &Node{Name: st.Name, Kind: st.Kind, Object: st.Object, File: st.File, First: st.Line, Last: st.Line}
		n.index[k] = c
		n.Children = append(n.Children, c)
	}
	return c
}

// maxAlso bounds the objects that a node remembers: who draws it names fewer.
const maxAlso = 4

// add takes in what else a step says of the node that it belongs to.
func (n *Node) add(st *Step, count uint64) {
	if st.Inlined {
		n.Inlined += count
	}
	if st.Object != n.Object && len(n.Also) < maxAlso && !slices.Contains(n.Also, st.Object) {
		n.Also = append(n.Also, st.Object)
	}
	if n.File == "" {
		n.File, n.First, n.Last = st.File, st.Line, st.Line
	}
	if st.File == n.File && st.Line > 0 {
		n.Last = max(n.Last, st.Line)
		if n.First == 0 || st.Line < n.First {
			n.First = st.Line
		}
	}
}

func (n *Node) finish() {
	n.index = nil
	slices.SortFunc(n.Children, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	for _, c := range n.Children {
		c.finish()
	}
}

// Function is one function over the whole profile. A sample counts once in
// Total, however often the function occurs in its stack.
type Function struct {
	Name   string
	Kind   FrameKind
	Object string
	Self   uint64
	Total  uint64
}

// Functions is the table of functions, those with the most Self first, then by
// Total and name. Thread names are not in it.
func (p *Profile) Functions() []Function {
	type entry struct {
		Function
		seen int // 1 + index of the last sample counted in Total
	}
	index := map[nodeKey]*entry{}
	for i := range p.Samples {
		s := &p.Samples[i]
		leaf := true
		for a, f := range p.Frames(s) {
			k := nodeKey{f.Name, f.Kind}
			e := index[k]
			if e == nil {
				e = &entry{Function: Function{Name: f.Name, Kind: f.Kind}}
				if m := p.Mapping(a.Mapping); m != nil {
					e.Object = m.Object()
				}
				index[k] = e
			}
			if leaf {
				e.Self += s.Count
				leaf = false
			}
			if e.seen != i+1 {
				e.Total += s.Count
				e.seen = i + 1
			}
		}
	}
	fs := make([]Function, 0, len(index))
	for _, e := range index {
		fs = append(fs, e.Function)
	}
	slices.SortFunc(fs, func(a, b Function) int {
		return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Total, a.Total),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return fs
}
