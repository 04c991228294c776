// SPDX-License-Identifier: Apache-2.0

package spelling

import (
	"fmt"
	"testing"
)

func TestNearest(t *testing.T) {
	hosts := []string{"web-01", "web-02", "db-primary", "a"}
	for word, want := range map[string]string{
		"web-1": "web-01", "WEB-02": "web-02", "wbe-02": "web-02", "db-pirmary": "db-primary", "dbprimry": "db-primary",
		"cache-01": "", "": "", "x": "", "web-01": "web-01",
		"db": "db-primary", "primary": "db-primary", "web": "",
	} {
		if got := Nearest(word, hosts); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// However long the words are, the limit bounds what is looked for.
func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		limit, want int
	}{
		{"", "", 3, 0}, {"a", "", 3, 1}, {"kitten", "sitting", 9, 3}, {"kitten", "sitting", 2, 2}, {"abc", "abcdefgh", 3, 3}, {"flaw", "lawn", 9, 2},
	} {
		t.Run(fmt.Sprintf("%s %s", c.a, c.b), func(t *testing.T) {
			if got, back := Distance(c.a, c.b, c.limit), Distance(c.b, c.a, c.limit); got != c.want || back != c.want {
				t.Errorf("%d and %d, want %d", got, back, c.want)
			}
		})
	}
}
