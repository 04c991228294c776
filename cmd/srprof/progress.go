// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/carverauto/serviceradar-profiler/session"
)

// progress is some lines on a terminal that tell how a recording goes: one, and
// one for each host where there are several.
type progress struct {
	w             io.Writer // nil if nobody looks
	width, height int
	shown         int // lines
}

// newProgress shows nothing unless w is a terminal.
func newProgress(w io.Writer) *progress {
	p := new(progress)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w, p.width, p.height = w, 80, 24
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			p.width, p.height = width, height
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
	if p.w == nil {
		return
	}
	first := line(s)
	if s.State == session.StateRunning {
		first = progressLine(s.Progress, s.Spec.Duration)
		if len(s.Hosts) > 1 {
			sum := s.Progress
			sum.Hottest = "" // each host has its own
			first = progressLine(sum, s.Spec.Duration) + "  " + tally(s.Hosts)
		}
	}
	lines := []string{first}
	if len(s.Hosts) > 1 {
		lines = append(lines, p.hostLines(s.Hosts)...)
	}
	p.show(lines...)
}

// hostLines are as many as there is place for: first those that failed or wait,
// because somebody may want to do something about it.
func (p *progress) hostLines(hosts []session.HostRun) (lines []string) {
	rank := map[session.State]int{session.StateFailed: 0, session.StatePending: 1, session.StateRunning: 2}
	order := func(h *session.HostRun) int {
		if n, ok := rank[h.State]; ok {
			return n
		}
		return len(rank)
	}
	hosts = slices.SortedStableFunc(slices.Values(hosts), func(a, b session.HostRun) int { return cmp.Compare(order(&a), order(&b)) })
	width := 0
	for i := range hosts {
		width = min(max(width, len([]rune(printable(hosts[i].Host)))), 30)
	}
	room := max(p.height-4, 1) // the first line, the last, and the prompt
	for i := range hosts[:min(len(hosts), room)] {
		h := &hosts[i]
		text := fmt.Sprintf("  %-*s  %-9s", width, printable(h.Host), runState(h))
		switch {
		case h.Err != nil:
			text += "  " + printable(reason(h.Err))
		case h.State == session.StatePending:
			text += "  " + printable(h.Waiting)
		default:
			text += fmt.Sprintf("  %6v  %6d samples", h.Progress.Elapsed.Round(100*time.Millisecond), h.Progress.Samples)
			if h.Progress.Hottest != "" && h.State == session.StateRunning {
				text += "  hottest: " + printable(h.Progress.Hottest)
			}
		}
		lines = append(lines, text)
	}
	if more := len(hosts) - room; more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return lines
}

// show puts lines in the place of those before.
func (p *progress) show(lines ...string) {
	var text strings.Builder
	text.WriteString(p.back())
	for i, line := range lines {
		if i > 0 {
			text.WriteByte('\n')
		}
		if r := []rune(line); len(r) >= p.width && p.width > 1 {
			line = string(r[:p.width-1])
		}
		text.WriteString(line + "\x1b[K")
	}
	p.shown = len(lines)
	fmt.Fprint(p.w, text.String()+"\x1b[J")
}

// back goes to where the first line begins (Control Functions of ECMA-48).
func (p *progress) back() string {
	if p.shown > 1 {
		return fmt.Sprintf("\r\x1b[%dA", p.shown-1)
	}
	return "\r"
}

// end takes the lines away.
func (p *progress) end() {
	if p.shown > 0 {
		fmt.Fprint(p.w, p.back()+"\x1b[J")
		p.shown = 0
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
