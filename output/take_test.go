// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// stranger is a profiler that answers each Fetch with anything.
type stranger struct {
	session.Runner
	size int64
	body io.Reader
}

func (s *stranger) Fetch(context.Context, session.ID, session.Want) (*session.Content, error) {
	return &session.Content{Session: session.Session{ID: "1234", State: session.StateSucceeded}, Size: s.size, Body: io.NopCloser(s.body)}, nil
}

// takeFrom fetches into files in a directory of its own.
func takeFrom(t *testing.T, s *stranger, names ...string) (dir, stderr string, err error) {
	t.Helper()
	return takeFromUpTo(t, s, 0, names...)
}

func takeFromUpTo(t *testing.T, s *stranger, limit input.Limit, names ...string) (dir, stderr string, err error) {
	t.Helper()
	dir = t.TempDir()
	d := Destination{Names: "short", Annotate: "kernel", Limit: limit}
	for _, name := range names {
		d.Paths = append(d.Paths, filepath.Join(dir, name))
	}
	var problems bytes.Buffer
	to := Streams{Out: io.Discard, Err: &problems}
	outs, err := d.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Take(t.Context(), to, s, "1234", outs)
	outs.Abandon()
	return dir, problems.String(), err
}

// code is that of an error that users know; empty if it has none.
func code(err error) string {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What does not arrive whole, or is no profile, is not written as one.
func TestFetchFromStranger(t *testing.T) {
	cut := errors.New("cut")
	for _, c := range []struct {
		label string
		from  *stranger
		code  string
	}{
		{"cut", &stranger{body: io.MultiReader(strings.NewReader("some"), iotest.ErrReader(cut))}, ""},
		{"no profile", &stranger{body: strings.NewReader("anything")}, "not_a_profile"},
		{"too large", &stranger{size: input.MaxFetched + 1, body: iotest.ErrReader(cut)}, "profile_too_large"},
	} {
		dir, _, err := takeFrom(t, c.from, "x.svg", "x.folded")
		if err == nil || code(err) != c.code {
			t.Errorf("%s: %v, want code %s", c.label, err, c.code)
		}
		if left := filesIn(t, dir); len(left) > 0 {
			t.Errorf("%s: wrote %v", c.label, left)
		}
	}
}

// Where there is no place to keep what comes, the error says which place.
func TestFetchWithoutRoom(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", "nosuch")
	d := Destination{Names: "short", Annotate: "kernel"}
	to := Streams{Out: io.Discard, Err: io.Discard}
	_, err := d.Take(t.Context(), to, &stranger{body: strings.NewReader("anything")}, "1234", nil)
	if code(err) != "profile_not_kept" || !strings.Contains(err.Error(), "nosuch (no such file or directory); ") {
		t.Errorf("%v", err)
	}
}

// Nothing in a profile steers the terminal of whoever fetches it.
func TestFetchIsPrintable(t *testing.T) {
	hostile := "a\x1b]0;title\a\u202e"
	b := profile.NewBuilder()
	id := b.Address(1, b.Mapping(profile.Mapping{Path: hostile, Start: 0, Limit: 9}), false)
	b.Add(profile.Thread{PID: 1, TID: 1, Comm: hostile}, []profile.AddressID{id}, false, 1)
	p := b.Profile()
	p.Meta = profile.Metadata{Tool: "x", Host: hostile, FrequencyHz: 99, Ended: profile.EndedExited, Targets: []profile.Target{{PID: 1, Name: hostile, Command: hostile}},
		Warnings: []string{hostile}, Unnamed: []profile.Unnamed{{Object: hostile, Samples: 1, Why: hostile, Remedy: hostile}}}
	p.Count()
	var encoded bytes.Buffer
	if err := pprof.Write(&encoded, p); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := takeFrom(t, &stranger{body: &encoded}, "x.folded")
	if err != nil || !strings.Contains(stderr, "wrote ") || strings.ContainsAny(stderr, "\x1b\a\u202e") {
		t.Errorf("%v: %q", err, stderr)
	}
}

// zeros is a long body.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A profile of any size is written as it came, without taking memory.
func TestFetchLarge(t *testing.T) {
	const size = 200 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	dir, stderr, err := takeFrom(t, &stranger{size: size, body: io.LimitReader(zeros{}, size)}, "x.pb.gz")
	runtime.ReadMemStats(&after)
	if err != nil || !strings.Contains(stderr, "wrote ") {
		t.Fatalf("%v: %s", err, stderr)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d bytes were allocated for a profile of %d", got, size)
	}
	if info, err := os.Stat(filepath.Join(dir, "x.pb.gz")); err != nil || info.Size() != size {
		t.Errorf("%v, %v", info, err)
	}
}

// Whoever has the memory converts what is too large as a rule, and whoever has
// not takes it as it is.
func TestFetchLargerThanIsRead(t *testing.T) {
	b := profile.NewBuilder()
	b.Add(profile.Thread{PID: 1, TID: 1, Comm: "x"}, []profile.AddressID{b.Address(1, b.Mapping(profile.Mapping{Path: "x", Start: 0, Limit: 9}), false)}, false, 1)
	p := b.Profile()
	p.Meta = profile.Metadata{Tool: "x", FrequencyHz: 99, Targets: []profile.Target{{PID: 1, Name: "x"}}, Warnings: []string{strings.Repeat("long ", pprof.MaxSize/5)}}
	p.Count()
	var encoded bytes.Buffer
	if err := pprof.Write(&encoded, p); err != nil {
		t.Fatal(err)
	}
	from := func() *stranger { return &stranger{size: int64(encoded.Len()), body: bytes.NewReader(encoded.Bytes())} }
	if _, stderr, err := takeFrom(t, from(), "x.pb.gz"); err != nil || !strings.Contains(stderr, "wrote ") {
		t.Errorf("as it came: %v: %.200s", err, stderr)
	}
	if _, _, err := takeFrom(t, from(), "x.folded"); err == nil || code(err) != "profile_too_large" || !strings.Contains(err.Error(), "--max-profile") {
		t.Errorf("as folded text: %v, want code profile_too_large", err)
	}
	if _, stderr, err := takeFromUpTo(t, from(), 100, "x.folded"); err != nil || !strings.Contains(stderr, "wrote ") {
		t.Errorf("as folded text, with more memory: %v: %.200s", err, stderr)
	}
	if _, _, err := takeFromUpTo(t, from(), -1, "x.folded"); err == nil || code(err) != "bad_max_profile" {
		t.Errorf("with less than nothing: %v, want code bad_max_profile", err)
	}
}

// Until a profile is written there is nothing of it, then it takes the place, and
// the mode, of what was there.
func TestInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.folded")
	d := Destination{Names: "short", Annotate: "kernel", Paths: []string{path}}
	write := func(count uint64) {
		t.Helper()
		outs, err := d.Create(Streams{Out: io.Discard, Err: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		defer outs.Abandon()
		b := profile.NewBuilder()
		b.Add(profile.Thread{PID: 1, TID: 1, Comm: "x"}, []profile.AddressID{b.Address(1, b.Mapping(profile.Mapping{Path: "x", Start: 0, Limit: 9}), false)}, false, count)
		p := b.Profile()
		p.Meta = profile.Metadata{Tool: "x", FrequencyHz: 99}
		if err := outs.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644&^umask() {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	write(2)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "x;[x] 2\n" {
		t.Errorf("%q, %v", b, err)
	}
	if left := filesIn(t, dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
