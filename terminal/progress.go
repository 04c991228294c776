// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Progress is some lines on a terminal that tell how a recording goes: one, and
// one for each host where there are several.
type Progress struct {
	w     io.Writer                  // nil if nobody looks
	size  func() (width, height int) // of the terminal
	shown int                        // lines
}

// NewProgress shows nothing unless w is a terminal.
func NewProgress(w io.Writer) *Progress {
	if s := ScreenOf(w); s != nil {
		return &Progress{w: w, size: s.Size}
	}
	return new(Progress)
}

// Seen says whether somebody looks.
func (p *Progress) Seen() bool { return p.w != nil }

// Update is what to call with news of a recording; nil when nobody looks.
func (p *Progress) Update(total time.Duration) func(session.Progress) {
	if p.w == nil {
		return nil
	}
	return func(s session.Progress) { p.show(progressLine(s, total)) }
}

// Session tells of a recording elsewhere.
func (p *Progress) Session(s *session.Session) {
	if p.w == nil {
		return
	}
	first := Line(s)
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
func (p *Progress) hostLines(hosts []session.HostRun) (lines []string) {
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
		width = min(max(width, Width(Printable(hosts[i].Host))), 30)
	}
	_, height := p.size()
	room := max(height-4, 1) // the first line, the last, and the prompt
	for i := range hosts[:min(len(hosts), room)] {
		h := &hosts[i]
		text := fmt.Sprintf("  %s  %-9s", padded(Printable(h.Host), width), runState(h))
		switch {
		case h.Err != nil:
			text += "  " + Printable(reason(h.Err))
		case h.State == session.StatePending:
			text += "  " + Printable(h.Waiting)
		default:
			text += fmt.Sprintf("  %6v  %6d samples", h.Progress.Elapsed.Round(100*time.Millisecond), h.Progress.Samples)
			if h.Progress.Hottest != "" && h.State == session.StateRunning {
				text += "  hottest: " + Printable(h.Progress.Hottest)
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
func (p *Progress) show(lines ...string) {
	var text strings.Builder
	text.WriteString(p.back())
	width, _ := p.size()
	for i, line := range lines {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(Cut(line, max(width-1, 1)) + "\x1b[K")
	}
	p.shown = len(lines)
	fmt.Fprint(p.w, text.String()+"\x1b[J")
}

// back goes to where the first line begins (Control Functions of ECMA-48).
func (p *Progress) back() string {
	if p.shown > 1 {
		return fmt.Sprintf("\r\x1b[%dA", p.shown-1)
	}
	return "\r"
}

// End takes the lines away.
func (p *Progress) End() {
	if p.shown > 0 {
		fmt.Fprint(p.w, p.back()+"\x1b[J")
		p.shown = 0
	}
}

func progressLine(s session.Progress, total time.Duration) string {
	line := fmt.Sprintf("%v of %v  %d sample", s.Elapsed.Round(100*time.Millisecond), total, s.Samples)
	if s.Samples != 1 {
		line += "s"
	}
	if s.Lost > 0 {
		line += fmt.Sprintf("  %d lost", s.Lost)
	}
	if s.Hottest != "" {
		line += "  hottest: " + Printable(s.Hottest)
	}
	return line
}
