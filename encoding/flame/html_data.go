// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"encoding/json"
	"slices"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// pageData is a profile as the page's script reads it: every text once, and
// the call tree as flat arrays, because a hundred thousand small objects take
// a browser longer to read than to draw.
type pageData struct {
	Metadata json.RawMessage        `json:"metadata"`
	Heading  string                 `json:"heading"`
	Strings  []string               `json:"strings"`
	Families [families]string       `json:"families"`
	Palettes map[string]palette     `json:"palettes"`
	Function functionArrays         `json:"functions"`
	Nodes    nodeArrays             `json:"nodes"`
	index    map[functionKey]uint32 // of functions
	objects  [][]string             // by function
	texts    map[string]uint32      // of strings
}

// functionArrays has one entry for each function: what all its nodes share.
// Numbers are uint16 where a byte would do, since JSON has []byte as base64.
type functionArrays struct {
	Name   []uint32 `json:"name"`   // index of strings
	Object []uint32 `json:"object"` // index of strings
	Kind   []uint16 `json:"kind"`   // profile.FrameKind
	Family []uint16 `json:"family"` // index of families and into a palette
	Shade  []uint16 `json:"shade"`
}

// nodeArrays is the call tree depth first: a node stands before its children,
// its subtree is what follows until Children are used up.
type nodeArrays struct {
	Function []uint32 `json:"function"`
	Total    []uint64 `json:"total"`
	Self     []uint64 `json:"self"`
	Children []uint32 `json:"children"`          // how many
	Place    []uint32 `json:"place,omitempty"`   // index of strings; left out where nothing is known
	Inlined  []uint16 `json:"inlined,omitempty"` // 1 where all of it is
}

// functionKey is what makes two nodes one function, the same as in
// [profile.Profile.Functions]: the table on the page must say what every
// other table says.
type functionKey struct {
	name string
	kind profile.FrameKind
}

func newPageData(root *profile.Node, m *profile.Metadata, c profile.Counts) *pageData {
	d := &pageData{
		Metadata: json.RawMessage(metadataJSON(m, c)),
		Heading:  heading(m),
		Families: familyNames,
		Palettes: palettes,
		index:    map[functionKey]uint32{},
		texts:    map[string]uint32{},
	}
	d.text("") // index 0: no object
	d.add(root)
	for i, objects := range d.objects {
		d.Function.Object[i] = d.text(objectNames(objects))
	}
	if !slices.ContainsFunc(d.Nodes.Place, func(i uint32) bool { return i != 0 }) {
		d.Nodes.Place, d.Nodes.Inlined = nil, nil
	}
	return d
}

func (d *pageData) add(n *profile.Node) {
	d.Nodes.Function = append(d.Nodes.Function, d.function(n))
	d.Nodes.Total = append(d.Nodes.Total, n.Total)
	d.Nodes.Self = append(d.Nodes.Self, n.Self)
	d.Nodes.Children = append(d.Nodes.Children, uint32(len(n.Children)))
	d.Nodes.Place = append(d.Nodes.Place, d.text(place(n)))
	isInlined := uint16(0)
	if inlined(n) {
		isInlined = 1
	}
	d.Nodes.Inlined = append(d.Nodes.Inlined, isInlined)
	for _, c := range n.Children {
		d.add(c)
	}
}

// function returns the index of a node's function. Functions are told apart
// by their real names, even where two look the same once they are printable.
func (d *pageData) function(n *profile.Node) uint32 {
	k := functionKey{n.Name, n.Kind}
	i, ok := d.index[k]
	if ok {
		d.addObjects(i, n)
		return i
	}
	i = uint32(len(d.index))
	d.index[k] = i
	d.objects = append(d.objects, nil)
	d.addObjects(i, n)
	f := &d.Function
	f.Name = append(f.Name, d.text(printable(n.Name, nameLimit)))
	f.Object = append(f.Object, 0) // when all are known
	f.Kind = append(f.Kind, uint16(n.Kind))
	f.Family = append(f.Family, uint16(familyOf(n.Name, n.Kind, n.Object)))
	f.Shade = append(f.Shade, uint16(shadeOf(n.Name)))
	return i
}

func (d *pageData) addObjects(function uint32, n *profile.Node) {
	known := &d.objects[function]
	for _, o := range append([]string{n.Object}, n.Also...) {
		if len(*known) <= maxObjects && !slices.Contains(*known, o) {
			*known = append(*known, o)
		}
	}
}

func (d *pageData) text(s string) uint32 {
	i, ok := d.texts[s]
	if !ok {
		i = uint32(len(d.Strings))
		d.texts[s] = i
		d.Strings = append(d.Strings, s)
	}
	return i
}
