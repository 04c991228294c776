// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/carverauto/serviceradar-profiler/session"
)

// progress is one line on a terminal that tells how a recording goes.
type progress struct {
	w     io.Writer
	width int
	total time.Duration
	shown bool
}

// newProgress shows nothing unless w is a terminal.
func newProgress(w io.Writer, spec *session.Spec) *progress {
	p := &progress{total: spec.Duration}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w, p.width = w, 80
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// update is what to call with news; nil when nobody looks.
func (p *progress) update() func(session.Progress) {
	if p.w == nil {
		return nil
	}
	return func(s session.Progress) {
		p.shown = true
		fmt.Fprintf(p.w, "\r\x1b[K%s", progressLine(s, p.total, p.width))
	}
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func progressLine(s session.Progress, total time.Duration, width int) string {
	line := fmt.Sprintf("%v of %v  %d samples", s.Elapsed.Round(100*time.Millisecond), total, s.Samples)
	if s.Lost > 0 {
		line += fmt.Sprintf("  %d lost", s.Lost)
	}
	if s.Hottest != "" {
		line += "  hottest: " + printable(s.Hottest)
	}
	if r := []rune(line); len(r) >= width && width > 1 {
		line = string(r[:width-1])
	}
	return line
}

// printable keeps a stranger's names from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// umask reads the process's file mode mask, which takes setting it.
func umask() os.FileMode {
	m := syscall.Umask(0)
	syscall.Umask(m)
	return os.FileMode(m)
}
