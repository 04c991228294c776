// SPDX-License-Identifier: Apache-2.0

package input

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Nobody has to write something so that what waits for it ends.
func TestStandardInputIsInterrupted(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	former := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = former }()
	defer in.Close()
	defer out.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if _, err := Limit(0).ReadFile(ctx, Stdin); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
}

// What cannot be read says which it is, why and what to do.
func TestUnreadable(t *testing.T) {
	text := filepath.Join(t.TempDir(), "x.txt")
	if err := os.WriteFile(text, []byte("anything"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file  string
		limit Limit
		code  string
	}{
		{"nosuch.pb.gz", 0, "profile_not_readable"},
		{filepath.Dir(text), 0, "profile_not_readable"},
		{text, 0, "not_a_profile"},
		{text, -1, "bad_max_profile"},
	} {
		_, err := c.limit.ReadFile(t.Context(), c.file)
		var e *session.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Remedy == "" || c.limit == 0 && !strings.Contains(e.Problem, c.file) {
			t.Errorf("%s: %v, want code %s", c.file, err, c.code)
		}
	}
}

func TestName(t *testing.T) {
	for file, want := range map[string]string{"a/web-01.pb.gz": "web-01", "x.pprof": "x", "y.gz": "y", ".pb.gz": ".pb", "z": "z"} {
		if got := Name(file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}
