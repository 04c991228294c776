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
	w     io.Writer // nil if nobody looks
	width int
	shown bool
}

// newProgress shows nothing unless w is a terminal.
func newProgress(w io.Writer) *progress {
	p := new(progress)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w, p.width = w, 80
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	return p
}

// update is what to call with news of a recording; nil when nobody looks.
func (p *progress) update(total time.Duration) func(session.Progress) {
	if p.w == nil {
		return nil
	}
	return func(s session.Progress) { p.show(progressLine(s, total)) }
}

// session tells of a recording elsewhere.
func (p *progress) session(s *session.Session) {
	switch {
	case p.w == nil:
	case s.State == session.StateRunning:
		p.show(progressLine(s.Progress, s.Spec.Duration))
	default:
		p.show(line(s))
	}
}

func (p *progress) show(line string) {
	p.shown = true
	if r := []rune(line); len(r) >= p.width && p.width > 1 {
		line = string(r[:p.width-1])
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func progressLine(s session.Progress, total time.Duration) string {
	line := fmt.Sprintf("%v of %v  %d samples", s.Elapsed.Round(100*time.Millisecond), total, s.Samples)
	if s.Lost > 0 {
		line += fmt.Sprintf("  %d lost", s.Lost)
	}
	if s.Hottest != "" {
		line += "  hottest: " + printable(s.Hottest)
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
