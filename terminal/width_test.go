// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"strings"
	"testing"
)

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "häß": 3, "e\u0301": 1, "日本語": 6, "🔥x": 3, "한": 2, "ﾊﾝｶｸ": 4} {
		if got := Width(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"日本語", 5, "日本"}, {"日本語", 6, "日本語"}, {"abc", 0, ""}, {"e\u0301x", 1, "e\u0301"}} {
		if got := Cut(c.text, c.most); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

// Columns stand below one another whatever the names of processes are.
func TestTableOfWideNames(t *testing.T) {
	var b strings.Builder
	table := NewTable(&b, "NAME", "PID")
	table.Row("日本語", "1")
	table.Row("plain", "2")
	if err := table.Write(); err != nil {
		t.Fatal(err)
	}
	if want := "NAME     PID\n日本語   1\nplain    2\n"; b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
}
