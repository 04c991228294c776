// SPDX-License-Identifier: Apache-2.0

package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

func opened(t *testing.T, dir string, limits Limits) *Files {
	t.Helper()
	f, err := Open(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func received(t *testing.T, f *Files, name string) *Receipt {
	t.Helper()
	r, err := f.Receive(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wrote(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if n, err := w.Write(b); err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes were written: %v", n, len(b), err)
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func kept(t *testing.T, f *Files, name string, b []byte) {
	t.Helper()
	r := received(t, f, name)
	wrote(t, r, b)
	if err := r.Commit(sum(b)); err != nil {
		t.Fatal(err)
	}
}

// holds checks a whole file.
func holds(t *testing.T, f *Files, name string, want []byte) {
	t.Helper()
	info, err := f.Info(name)
	if err != nil || info != (Info{int64(len(want)), sum(want)}) {
		t.Errorf("%s is %+v: %v", name, info, err)
	}
	file, info2, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || !bytes.Equal(got, want) || info2 != info {
		t.Errorf("%s has %d bytes, not %d, or others; %+v, %v", name, len(got), len(want), info2, err)
	}
}

// uses checks that the count of bytes is that of the files.
func uses(t *testing.T, f *Files) int64 {
	t.Helper()
	var all int64
	err := filepath.WalkDir(f.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Used(); got != all {
		t.Errorf("%d bytes are counted, and there are %d", got, all)
	}
	return all
}

func TestWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "anew")
	f := opened(t, dir, Limits{})
	one, two := bytes.Repeat([]byte("one"), 100_000), []byte("two")
	kept(t, f, "one", one)
	kept(t, f, "2.two_-", two)
	kept(t, f, "empty", nil)
	for range 2 {
		holds(t, f, "one", one)
		holds(t, f, "2.two_-", two)
		holds(t, f, "empty", nil)
		if got := f.Names(); !slices.Equal(got, []string{"2.two_-", "empty", "one"}) {
			t.Errorf("there are %q", got)
		}
		if n := uses(t, f); n != int64(len(one)+len(two)) {
			t.Errorf("%d bytes are in use", n)
		}
		if _, err := f.Receive("one"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("received twice: %v", err)
		}
		f = opened(t, dir, Limits{})
	}
	open, _, err := f.Open("one")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := f.Remove("one"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(open); err != nil || !bytes.Equal(got, one) {
		t.Errorf("what was open cannot be read any more: %v", err)
	}
	for range 2 {
		if _, err := f.Info("one"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("info of what was removed: %v", err)
		}
		if _, _, err := f.Open("one"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open what was removed: %v", err)
		}
		uses(t, f)
		f = opened(t, dir, Limits{})
	}
	kept(t, f, "one", two)
	holds(t, f, "one", two)
}

// What was broken off goes on.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789"), 10_000)
	f := opened(t, dir, Limits{})
	for from := 0; from < len(want); from += 30_000 {
		r := received(t, f, "part")
		if r.Size() != int64(from) {
			t.Fatalf("%d bytes are there, not %d", r.Size(), from)
		}
		if _, err := f.Receive("part"); !errors.Is(err, session.ErrBusy) {
			t.Errorf("received by two: %v", err)
		}
		wrote(t, r, want[from:min(from+30_000, len(want))])
		if _, err := f.Info("part"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not whole is there: %v", err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("written after its end: %v", err)
		}
		if err := r.Commit(sum(want)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("committed after its end: %v", err)
		}
		uses(t, f)
		if got := f.Names(); !slices.Equal(got, []string{"part"}) {
			t.Errorf("there are %q", got)
		}
		if from%60_000 == 0 {
			f = opened(t, dir, Limits{}) // as after a crash
		}
	}
	if err := received(t, f, "part").Commit(sum(want)); err != nil {
		t.Fatal(err)
	}
	holds(t, f, "part", want)

	r := received(t, f, "anew")
	wrote(t, r, want)
	if err := r.Restart(); err != nil || r.Size() != 0 {
		t.Fatalf("%d bytes are there after a restart: %v", r.Size(), err)
	}
	uses(t, f)
	wrote(t, r, want[:7])
	if err := r.Commit(sum(want[:7])); err != nil {
		t.Fatal(err)
	}
	holds(t, f, "anew", want[:7])
}

// What is left of a file after a crash of the machine may be anything. It is not
// taken for the file, and the next try begins anew.
func TestTorn(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 1000)
	for what, tear := range map[string]func(b []byte) []byte{
		"zeros at the end":    func(b []byte) []byte { clear(b[len(b)-100:]); return b },
		"a bit in the middle": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"garbage beyond":      func(b []byte) []byte { return append(b, "garbage"...) },
		"a missing end":       func(b []byte) []byte { return b[:len(b)-1] },
		"all":                 func(b []byte) []byte { return nil },
	} {
		dir := t.TempDir()
		f := opened(t, dir, Limits{})
		r := received(t, f, "torn")
		wrote(t, r, want)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, partialDir, "torn"), tear(slices.Clone(want)), 0o600); err != nil {
			t.Fatal(err)
		}
		f = opened(t, dir, Limits{})
		r = received(t, f, "torn")
		if err := r.Commit(sum(want)); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: the error is %v", what, err)
		}
		r = received(t, f, "torn")
		if r.Size() != 0 {
			t.Errorf("%s: %d bytes of it are still there", what, r.Size())
		}
		wrote(t, r, want)
		if err := r.Commit(sum(want)); err != nil {
			t.Fatal(err)
		}
		holds(t, f, "torn", want)
		uses(t, f)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, filepath.Join(dir, "in"), Limits{})
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b", ".hidden", "a@b", "a b", "é", "a\n", strings.Repeat("x", 129)} {
		if _, err := f.Receive(name); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := f.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v", name, err)
		}
		if err := f.Remove(name); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	kept(t, f, strings.Repeat("x", 128), []byte("long"))
	holds(t, opened(t, f.dir, Limits{}), strings.Repeat("x", 128), []byte("long"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the directory there are %v, %v", entries, err)
	}
}

// What others put there stays there, and does not count.
func TestStrangers(t *testing.T) {
	dir := t.TempDir()
	kept(t, opened(t, dir, Limits{}), "ours", []byte("ours"))
	var strangers []string
	for _, name := range []string{"whole/x", "whole/x@y", "whole/.x@" + sum(nil), "partial/.hidden", "partial/a@b", "README"} {
		name = filepath.Join(dir, name)
		strangers = append(strangers, name)
		if err := os.WriteFile(name, []byte("stranger"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, partialDir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := opened(t, dir, Limits{})
	if got := f.Names(); !slices.Equal(got, []string{"ours"}) || f.Used() != 4 {
		t.Errorf("there are %q, of %d bytes", got, f.Used())
	}
	for _, name := range strangers {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestQuota(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, dir, Limits{MaxBytes: 100})
	kept(t, f, "one", make([]byte, 60))
	r := received(t, f, "two")
	wrote(t, r, make([]byte, 30))
	n, err := r.Write(make([]byte, 11))
	var e *session.Error
	if n != 0 || !errors.As(err, &e) || e.Code != "results_full" || !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("%d bytes beyond the limit: %v", n, err)
	}
	wrote(t, r, make([]byte, 10)) // up to the limit
	uses(t, f)
	f = opened(t, dir, Limits{MaxBytes: 100})
	r = received(t, f, "two")
	if _, err := r.Write([]byte("x")); !errors.As(err, &e) || e.Code != "results_full" {
		t.Errorf("what was there does not count: %v", err)
	}
	if err := f.Remove("one"); err != nil {
		t.Fatal(err)
	}
	wrote(t, r, make([]byte, 60))
	if n := uses(t, f); n != 100 {
		t.Errorf("%d bytes are in use", n)
	}
	if err := r.Restart(); err != nil || f.Used() != 0 {
		t.Errorf("%d bytes are in use after a restart: %v", f.Used(), err)
	}
}

// A session is forgotten while its profile comes.
func TestRemovedWhileReceived(t *testing.T) {
	f := opened(t, t.TempDir(), Limits{})
	r := received(t, f, "gone")
	wrote(t, r, []byte("first"))
	if err := f.Remove("gone"); err != nil {
		t.Fatal(err)
	}
	next := received(t, f, "gone") // by somebody else, anew
	if next.Size() != 0 {
		t.Errorf("%d bytes are there", next.Size())
	}
	if _, err := r.Write([]byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("written after it was removed: %v", err)
	}
	if err := r.Commit(sum([]byte("first"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("committed after it was removed: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Receive("gone"); !errors.Is(err, session.ErrBusy) {
		t.Errorf("the end of the old one ended the new one: %v", err)
	}
	wrote(t, next, []byte("second"))
	if err := next.Commit(sum([]byte("second"))); err != nil {
		t.Fatal(err)
	}
	holds(t, f, "gone", []byte("second"))
	uses(t, f)
}

// Many at once do not get into each other's way, nor beyond the limit.
func TestAtOnce(t *testing.T) {
	const each, limit = 10_000, 155_000
	f := opened(t, t.TempDir(), Limits{MaxBytes: limit})
	results := make(chan error)
	for i := range 30 {
		go func() {
			b := bytes.Repeat([]byte{byte(i)}, each)
			r, err := f.Receive(fmt.Sprint("file-", i))
			for n := 0; err == nil && n < each; n += 100 {
				_, err = r.Write(b[n : n+100])
			}
			if err == nil {
				err = r.Commit(sum(b))
			} else if r != nil {
				err = errors.Join(err, f.Remove(r.name), r.Close())
			}
			results <- err
		}()
	}
	whole := 0
	for range 30 {
		if err := <-results; err == nil {
			whole++
		} else if !errors.Is(err, session.ErrTooLarge) {
			t.Error(err)
		}
	}
	if n := uses(t, f); n != int64(whole*each) || n > limit {
		t.Errorf("%d whole files, %d bytes", whole, n)
	}
}
