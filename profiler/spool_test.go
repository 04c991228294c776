// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
)

// smallDisk is a file system of a few pages.
func smallDisk(t *testing.T) string {
	t.Helper()
	privileged(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillBut fills a disk but for so many bytes.
func fillBut(t *testing.T, dir string, left int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(info.Size() - left)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Somebody fills the disk: profiles are whole all the same, in memory, and
// where there is room again they are on the disk again.
func TestSpoolFull(t *testing.T) {
	for _, left := range []int64{0, 4096} {
		dir := smallDisk(t)
		s, start := kept(t, func(l *Limits) { l.SpoolDir = dir })
		var log lines
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		fillBut(t, dir, left)
		for range 3 {
			content := open(t, s, recorded(t, s, start).ID, "")
			if p, err := pprof.Read(content.Body); err != nil || p.Meta.Counts.Samples == 0 {
				t.Errorf("with %d bytes of room: %v", left, err)
			}
			drained(t, content, content.Size)
		}
		if err := os.Remove(filepath.Join(dir, "full")); err != nil {
			t.Fatal(err)
		}
		drained(t, open(t, s, recorded(t, s, start).ID, ""), 0)
		if err := s.Close(t.Context()); err != nil { // the log is written by now
			t.Error(err)
		}
		if got := log.count("kept in memory"); got > 1 || left == 0 && got == 0 {
			t.Errorf("with %d bytes of room: %d warnings, want one", left, got)
		}
	}
}

// What was written to the disk before it was full is not lost.
func TestSpoolMoves(t *testing.T) {
	dir := smallDisk(t)
	s, _ := kept(t, func(l *Limits) { l.SpoolDir = dir })
	file, why, err := s.spool.file()
	if err != nil || why != nil {
		t.Fatal(err, why)
	}
	fillBut(t, dir, 8192)
	w := &spoolWriter{s: s, file: file, hash: sha256.New(), priority: mustKeep}
	want := make([]byte, 100_000)
	_, _ = rand.Read(want) // never fails
	for part := range slices.Chunk(want, 7000) {
		if n, err := w.Write(part); err != nil || n != len(part) {
			t.Fatalf("%d of %d bytes were written: %v", n, len(part), err)
		}
	}
	got := make([]byte, len(want)+1)
	n, _ := w.file.ReadAt(got, 0) // io.EOF: one more was asked for
	if !w.moved || !bytes.Equal(got[:n], want) {
		t.Errorf("moved: %v; %d bytes are there, %d were written", w.moved, n, len(want))
	}
	w.file.Close()
	s.giveBack(w.size)
}
