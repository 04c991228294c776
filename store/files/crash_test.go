// SPDX-License-Identifier: Apache-2.0

package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/storetest"
)

// childVariable names the directory in which a child process is to write.
const childVariable = "SRPROF_FILES_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// content is what a file of that name is to have.
func content(name string) []byte {
	var seed [32]byte
	copy(seed[:], name)
	b := make([]byte, 100_000+int(seed[len(name)-1])*1000)
	if _, err := rand.NewChaCha8(seed).Read(b); err != nil {
		panic(err) // it never fails
	}
	return b
}

// child receives files until it is killed, each from where it was left, and says
// which are whole.
func child(dir string) error {
	f, err := Open(dir, Limits{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i := range 3 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("file-%d-%d", i, n)
				if err := receive(f, name); err != nil {
					failed <- err
				}
				fmt.Println(name) // one write, so lines stay whole
			}
		}()
	}
	return <-failed
}

func receive(f *Files, name string) error {
	r, err := f.Receive(name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b := content(name)
	for rest := b[r.Size():]; len(rest) > 0; {
		n := min(len(rest), 7001)
		if _, err := r.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return r.Commit(sum(b))
}

// Killed at random moments: what was said to be whole is, and the front of what
// was not is right, so that it can go on.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	resumed := 0
	for round := range 15 {
		said := killed(t, dir, 1+random.IntN(12)+3*round, time.Duration(random.IntN(4000))*time.Microsecond)
		f := opened(t, dir, Limits{})
		for _, name := range said {
			holds(t, f, name, content(name))
		}
		partial := 0
		for _, name := range f.Names() {
			if _, err := f.Info(name); err == nil {
				continue
			}
			partial++
			b, err := os.ReadFile(filepath.Join(dir, partialDir, name))
			if err != nil || !bytes.HasPrefix(content(name), b) {
				t.Errorf("the %d bytes of %s are not its front: %v", len(b), name, err)
			}
			if len(b) > 0 {
				resumed++
			}
		}
		if partial > 3 {
			t.Errorf("%d files are not whole, and three were received at a time", partial)
		}
		uses(t, f)
	}
	t.Logf("%d files were broken off and went on", resumed)
}

// killed is what a child said before it was killed, some time after so many
// lines.
func killed(t *testing.T, dir string, lines int, later time.Duration) []string {
	t.Helper()
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), childVariable+"="+dir)
	return storetest.Killed(t, child, lines, later)
}

// A full disk: what has room is there, and it goes on when there is more.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("only root may mount file systems")
		}
		t.Skip("only root may mount file systems")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := opened(t, dir, Limits{})
	old := bytes.Repeat([]byte("old"), 20_000)
	kept(t, f, "old", old)
	want := bytes.Repeat([]byte("0123456789"), 24_000)
	r := received(t, f, "new")
	n, err := r.Write(want)
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "disk_full" || !errors.Is(err, session.ErrUnavailable) || n == len(want) || r.Size() != int64(n) {
		t.Fatalf("%d bytes were written, %d are there: %v", n, r.Size(), err)
	}
	uses(t, f)
	holds(t, f, "old", old)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove("old"); err != nil { // which a full disk allows
		t.Fatal(err)
	}
	f = opened(t, dir, Limits{})
	r = received(t, f, "new")
	wrote(t, r, want[r.Size():])
	if err := r.Commit(sum(want)); err != nil {
		t.Fatal(err)
	}
	holds(t, f, "new", want)
}

// Memory does not grow with what is received, continued, checked and read: of
// 200 MB not even a hundredth is ever allocated.
func TestMemory(t *testing.T) {
	const size, most = 200 << 20, 2 << 20
	dir := t.TempDir()
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	f := opened(t, dir, Limits{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := received(t, f, "large")
	digest := ""
	for r.Size() < size {
		wrote(t, r, chunk)
		if r.Size() == size/2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			f = opened(t, dir, Limits{})
			r = received(t, f, "large")
		}
	}
	digest, err := r.sum()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(digest); err != nil {
		t.Fatal(err)
	}
	file, info, err := f.Open("large")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, chunk)
	if err != nil || n != size || info.Size != size {
		t.Errorf("%d bytes were read of %+v: %v", n, info, err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("%d bytes were allocated", got)
	}
}
