// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Screen is a terminal that lines can change on.
type Screen struct{ fd int }

// ScreenOf is the screen that w writes to; nil if it is none, or says that it only
// takes one line after the other.
func ScreenOf(w io.Writer) *Screen {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &Screen{int(f.Fd())}
}

// Size is how much there is room for now: windows change.
func (s *Screen) Size() (width, height int) {
	width, height, _ = term.GetSize(s.fd) // zeros mean that it is not known
	if width <= 0 {
		width = 80
	}
	if height <= 0 {
		height = 24
	}
	return width, height
}

// Color says whether people want colors (no-color.org).
func (s *Screen) Color() bool { return os.Getenv("NO_COLOR") == "" }
