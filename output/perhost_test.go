// SPDX-License-Identifier: Apache-2.0

package output

import (
	"strings"
	"testing"
)

// A host's name leads no file elsewhere.
func TestFileName(t *testing.T) {
	for host, want := range map[string]string{
		"web-01": "web-01", "../../etc/passwd": "_.._etc_passwd", "": "host", "..": "host", "a/b": "a_b", "é b": "__b", strings.Repeat("x", 300): strings.Repeat("x", 200),
	} {
		if got := fileName(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}
