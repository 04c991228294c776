// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"fmt"
	"math"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestFamily(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   profile.FrameKind
		object string
		want   family
	}{
		{"redis-server", profile.FrameThread, "", familyThread},
		{"do_syscall_64", profile.FrameKernel, "[kernel]", familyKernel},
		{"[kernel]", profile.FrameKernel, "[kernel]", familyKernel},
		{"[libfoo.so]", profile.FrameUser, "libfoo.so", familyUnknown},
		{"aeMain", profile.FrameUser, "redis-server", familyUser},
		{"memcpy.isra.0", profile.FrameUser, "libc.so.6", familyUser},
		{"walk.constprop.0.cold", profile.FrameUser, "a", familyUser},
		{"_ZN3foo.part.1", profile.FrameUser, "a", familyUser},
		{"foo.1234", profile.FrameUser, "a", familyUser},
		{"std::sort<int*>", profile.FrameUser, "a", familyScoped},
		{"<alloc::vec::Vec<T> as core::clone::Clone>::clone", profile.FrameUser, "a", familyScoped},
		{"runtime.mallocgc", profile.FrameUser, "a", familyGo},
		{"net/http.(*conn).serve", profile.FrameUser, "a", familyGo},
		{"encoding/json.structEncoder.encode", profile.FrameUser, "a", familyGo},
		{"main.main.func1", profile.FrameUser, "a", familyGo},
		{"slices.SortFunc[...]", profile.FrameUser, "a", familyGo},
		{"java.util.HashMap.get", profile.FrameUser, "[anonymous]", familyJIT},
		{"[anonymous]", profile.FrameUser, "[anonymous]", familyUnknown},
	} {
		if got := familyOf(c.name, c.kind, c.object); got != c.want {
			t.Errorf("familyOf(%q) = %s, want %s", c.name, familyNames[got], familyNames[c.want])
		}
	}
}

// Labels are #16181c in the light themes, #111317 in the dark one: every color
// of every palette must let them be read (WCAG AA, 4.5 to 1).
func TestLabelsAreReadable(t *testing.T) {
	luminance := func(r, g, b uint8) float64 {
		linear := func(v uint8) float64 {
			c := float64(v) / 255
			if c <= 0.04045 {
				return c / 12.92
			}
			return math.Pow((c+0.055)/1.055, 2.4)
		}
		return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
	}
	label := luminance(0x16, 0x18, 0x1c)
	for name, p := range palettes {
		for f := range families {
			for shade := range uint8(shades) {
				c := p.color(f, shade)
				var r, g, b uint8
				if _, err := fmt.Sscanf(c, "#%02x%02x%02x", &r, &g, &b); err != nil {
					t.Fatal(err)
				}
				if contrast := (luminance(r, g, b) + 0.05) / (label + 0.05); contrast < 4.5 {
					t.Errorf("%s, %s: %s has contrast %.1f", name, familyNames[f], c, contrast)
				}
			}
		}
	}
}
