// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"path"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// maxObjects is how many objects of one function are named.
const maxObjects = 3

// objectNames is the objects that a function is in: "libfoo.so, libbar.so".
func objectNames(objects []string) string {
	var shown []string
	for _, o := range objects {
		if o != "" && len(shown) < maxObjects {
			shown = append(shown, printable(o, headingLimit))
		}
	}
	s := strings.Join(shown, ", ")
	if len(objects) > maxObjects {
		s += ", …"
	}
	return s
}

// place says where in the source a node's calls are, and whether they were
// inlined: "server.c:118–131 · inlined"; nothing where that is not known.
func place(n *profile.Node) string {
	var parts []string
	if n.File != "" {
		s := printable(shortPath(n.File), headingLimit)
		if n.First > 0 {
			s += ":" + strconv.Itoa(n.First)
		}
		if n.Last > n.First {
			s += "–" + strconv.Itoa(n.Last)
		}
		parts = append(parts, s)
	}
	switch {
	case n.Inlined == 0:
	case n.Inlined == n.Total:
		parts = append(parts, "inlined")
	default:
		parts = append(parts, "inlined in "+percent(n.Inlined, n.Total))
	}
	return strings.Join(parts, " · ")
}

// shortPath is the last three parts of a path: who reads it knows the rest.
func shortPath(p string) string {
	dir, file := path.Split(p)
	dir, parent := path.Split(strings.TrimSuffix(dir, "/"))
	return path.Join(path.Base(strings.TrimSuffix(dir, "/")), parent, file)
}

// inlined says that a node was inlined in all its samples: its box is lower.
func inlined(n *profile.Node) bool { return n.Inlined > 0 && n.Inlined == n.Total }
