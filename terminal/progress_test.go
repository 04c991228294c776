// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// screen shows what a terminal does of it: the few sequences that are used.
func screen(text string, height int) []string {
	lines := make([]string, height)
	row, column := 0, 0
	for len(text) > 0 {
		var up int
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			lines[row] = lines[row][:min(column, len(lines[row]))]
			text = text[3:]
			continue
		case strings.HasPrefix(text, "\x1b[J"):
			lines[row] = lines[row][:min(column, len(lines[row]))]
			clear(lines[row+1:])
			text = text[3:]
			continue
		}
		if n, _ := fmt.Sscanf(text, "\x1b[%dA", &up); n == 1 {
			row -= up
			text = text[strings.IndexByte(text, 'A')+1:]
			continue
		}
		switch c := text[0]; c {
		case '\r':
			column = 0
		case '\n':
			row, column = row+1, 0
		default:
			line := lines[row] + strings.Repeat(" ", max(column-len(lines[row]), 0))
			lines[row] = line[:column] + string(c) + line[min(column+1, len(line)):]
			column++
		}
		text = text[1:]
	}
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

// A session on several hosts has a line for each as far as there is place, those
// that are in trouble first, and leaves nothing on the terminal.
func TestProgressOfHosts(t *testing.T) {
	var b strings.Builder
	p := &Progress{w: &b, size: func() (int, int) { return 70, 9 }}
	p.Session(fleetSession(3))
	p.Session(fleetSession(12))
	want := []string{
		"12s of 30s  1234 samples  12 hosts: 10 running, 1 pending, 1 failed",
		"  web-02  failed     it is away?[2J [host_unreachable]",
		"  web-03  pending    for a place at the host",
		"  web-00  running       12s     100 samples  hottest: hot",
		"  web-01  running       12s     100 samples  hottest: hot",
		"  web-04  running       12s     100 samples  hottest: hot",
		"  and 7 more",
	}
	if got := screen(b.String(), 9); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p.Session(fleetSession(2))
	if got := screen(b.String(), 9); len(got) != 3 {
		t.Errorf("fewer lines leave\n%s", strings.Join(got, "\n"))
	}
	p.End()
	if got := screen(b.String(), 9); len(got) != 0 {
		t.Errorf("left on the terminal:\n%s", strings.Join(got, "\n"))
	}
}
