// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// family says whose code a frame is, as far as a color can: it gives the hue.
// The numbers are indexes into a palette, here and in the page's script.
type family uint8

const (
	familyThread  family = iota // not code
	familyUnknown               // no name
	familyKernel
	familyUser
	familyScoped // names with "::", C++ and Rust
	familyGo
	familyJIT // named code without a file
	families
)

// familyNames are the words of the legend.
var familyNames = [families]string{"thread", "unknown", "kernel", "user", "C++, Rust", "Go", "JIT"}

// familyOf judges by kind, object and the form of the name: all that a
// profile says. A wrong guess costs a hue, nothing else.
func familyOf(name string, kind profile.FrameKind, object string) family {
	switch {
	case !kind.Code():
		return familyThread
	case kind == profile.FrameKernel:
		return familyKernel
	case name == "" || strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]"):
		return familyUnknown
	case object == profile.AnonymousObject:
		return familyJIT
	case strings.Contains(name, "::"):
		return familyScoped
	case looksGo(name):
		return familyGo
	}
	return familyUser
}

// looksGo tells runtime.mallocgc and net/http.(*conn).serve from C's
// memcpy.isra.0: a package path, a point, a name.
func looksGo(name string) bool {
	base := name
	if i := strings.IndexAny(name, "([{<"); i >= 0 {
		base = name[:i]
	}
	base = base[strings.LastIndexByte(base, '/')+1:]
	pkg, rest, ok := strings.Cut(base, ".")
	if !ok || pkg == "" || strings.ContainsAny(pkg, " *&~@$") || pkg[0] == '_' {
		return false
	}
	// What compilers append to the names of C functions they cloned.
	rest, _, _ = strings.Cut(rest, ".")
	switch rest {
	case "part", "isra", "constprop", "cold", "llvm", "lto_priv", "localalias":
		return false
	}
	return rest == "" || rest[0] > '9'
}

// shades is the number of variants of each hue: enough to tell neighbors
// apart, few enough to stay one family.
const shades = 16

// shadeOf depends on nothing but the name, so that two graphs line up in
// color as they do in order.
func shadeOf(name string) uint8 {
	h := fnv.New32a()
	h.Write([]byte(name))
	v := h.Sum32()
	return uint8((v ^ v>>8 ^ v>>16 ^ v>>24) % shades)
}

// hue is the color of a family, in HSL with percent, and how far the shades
// spread from it.
type hue struct {
	H     float64 `json:"h"`
	S     float64 `json:"s"`
	L     float64 `json:"l"`
	Turn  float64 `json:"turn"`  // degrees, each way
	Light float64 `json:"light"` // percent, each way
}

type palette [families]hue

// palettes by theme. "safe" is for eyes that do not tell red from green; its
// hues follow Okabe and Ito. All labels are dark: every color is light enough
// for a contrast of 4.5 to 1 and more (a test holds them to it).
var palettes = map[string]palette{
	"light": {
		familyThread:  {220, 14, 84, 0, 2},
		familyUnknown: {220, 4, 76, 0, 4},
		familyKernel:  {30, 96, 65, 5, 5},
		familyUser:    {9, 86, 71, 8, 5},
		familyScoped:  {48, 92, 64, 5, 5},
		familyGo:      {162, 46, 63, 14, 5},
		familyJIT:     {96, 48, 66, 10, 5},
	},
	"dark": {
		familyThread:  {220, 10, 58, 0, 2},
		familyUnknown: {220, 4, 56, 0, 4},
		familyKernel:  {29, 74, 56, 5, 4},
		familyUser:    {9, 64, 64, 8, 4},
		familyScoped:  {47, 66, 56, 5, 4},
		familyGo:      {162, 38, 52, 12, 4},
		familyJIT:     {96, 36, 55, 8, 4},
	},
	"safe": {
		familyThread:  {220, 10, 84, 0, 2},
		familyUnknown: {0, 0, 72, 0, 4},
		familyKernel:  {41, 96, 60, 2, 5},
		familyUser:    {202, 75, 69, 4, 6},
		familyScoped:  {56, 84, 64, 2, 6},
		familyGo:      {164, 60, 55, 4, 6},
		familyJIT:     {327, 44, 73, 4, 5},
	},
}

// color of a shade: a grid of four turns of the hue and four lightnesses.
func (p *palette) color(f family, shade uint8) string {
	h := p[f]
	step := func(i uint8) float64 { return (float64(i) - 1.5) / 1.5 } // −1 … 1
	r, g, b := rgb(h.H+h.Turn*step(shade%4), h.S/100, (h.L+h.Light*step(shade/4%4))/100)
	return fmt.Sprintf("#%02x%02x%02x", r, g, b)
}

// rgb converts from HSL; h in degrees, s and l from 0 to 1.
func rgb(h, s, l float64) (r, g, b uint8) {
	a := s * math.Min(l, 1-l)
	channel := func(n float64) uint8 {
		k := math.Mod(n+h/30+12, 12)
		return uint8(math.Round(255 * (l - a*math.Max(-1, math.Min(1, math.Min(k-3, 9-k))))))
	}
	return channel(0), channel(8), channel(4)
}
