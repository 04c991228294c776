// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"errors"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

func TestAddress(t *testing.T) {
	for s, want := range map[string]string{
		"web-01":         "web-01:50084",
		"web-01:7":       "web-01:7",
		"web-01:":        "web-01:50084",
		"192.0.2.1":      "192.0.2.1:50084",
		"::1":            "[::1]:50084",
		"[::1]":          "[::1]:50084",
		"[::1]:7":        "[::1]:7",
		"":               "",
		":7":             "",
		"http://web-01/": "",
		"web-01:http":    "",
		"web-01:70000":   "",
		"a:b:c":          "",
		"web 01":         "",
	} {
		got, _, err := Address(s)
		if got != want || errors.Is(err, session.ErrInvalid) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", s, got, err, want)
		}
	}
}
