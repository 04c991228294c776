// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a root directory as a stranger would make it, with a file "outside"
// beside it that nothing may lead to.
func tree(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "root")
	for _, d := range []string{"dir/deep", "etc", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"../outside": "secret", "dir/file": "file", "etc/passwd": "inside", "top": "top",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"plain": "dir/file", "absolute": "/dir/file", "dir/deep/up": "../file", "folder": "/dir",
		"up": "../../../../../../etc/passwd", "out": filepath.Join(top, "outside"), "beside": "../outside",
		"loop": "loop", "one": "two", "two": "one", "chain": "folder/deep/up", "dangling": "nowhere", "start": "/",
		"dir/deep/magic": "/proc/self/root" + top + "/outside",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Both ways to open a path, the kernel's and ours, lead to the same file.
func TestRootDir(t *testing.T) {
	r, err := OpenRootDir(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, c := range []struct {
		path string
		text string // "" if it cannot be opened
		err  error
	}{
		{"dir/file", "file", nil}, {"/dir/file", "file", nil}, {"//dir/./file", "file", nil},
		{"../../top", "top", nil}, {"dir/../dir/deep/../file", "file", nil},
		{"plain", "file", nil}, {"absolute", "file", nil}, {"folder/file", "file", nil},
		{"dir/deep/up", "file", nil}, {"chain", "file", nil}, {"start/start/top", "top", nil},
		{"up", "inside", nil}, // stays inside
		{"out", "", fs.ErrNotExist}, {"beside", "", fs.ErrNotExist}, {"dir/deep/magic", "", fs.ErrNotExist},
		{"loop", "", unix.ELOOP}, {"one", "", unix.ELOOP}, {"dangling", "", fs.ErrNotExist},
		{"nowhere", "", fs.ErrNotExist}, {"dir/file/x", "", unix.ENOTDIR},
		{"dir", "", errNotRegular}, {"/", "", nil}, {"fifo", "", errNotRegular},
		{strings.Repeat("dir/../", 500) + "top", "top", nil},
	} {
		for _, way := range []struct {
			name string
			find func(string) (int, error)
		}{{"openat2", r.find}, {"walk", r.walk}} {
			fd, err := way.find(c.path)
			var file *os.File
			if err == nil {
				file, err = openFound(fd, c.path)
			}
			if err != nil {
				if c.text != "" || (c.err != nil && !errors.Is(err, c.err)) {
					t.Errorf("%s of %s: %v, want %q, %v", way.name, c.path, err, c.text, c.err)
				}
				continue
			}
			b, err := io.ReadAll(file)
			file.Close()
			if err != nil || string(b) != c.text || c.text == "" {
				t.Errorf("%s of %s: read %q, %v, want %q, %v", way.name, c.path, b, err, c.text, c.err)
			}
		}
	}
	if n := openDescriptors(t); n > 0 {
		for range 100 {
			r.walk("chain/x")
			r.walk("dir/deep/../../loop")
		}
		if after := openDescriptors(t); after > n {
			t.Errorf("%d descriptors are open after failing walks, %d before", after, n)
		}
	}
	if f, err := r.Open(strings.Repeat("d/", 1<<20)); err == nil {
		t.Errorf("opened %v", f)
	}
	if _, err := r.walk("dir/" + strings.Repeat("start/dir/", maxLinks+1)); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("too many links: %v", err)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Nobody who waits at a FIFO sees that it was looked at.
func TestRootDirLeavesFIFOs(t *testing.T) {
	dir := tree(t)
	r, err := OpenRootDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 3 {
		if f, err := r.Open("fifo"); !errors.Is(err, errNotRegular) {
			t.Fatalf("%v, %v", f, err)
		}
	}
	// A writer that does not wait for a reader finds none.
	fd, err := unix.Open(filepath.Join(dir, "fifo"), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	if !errors.Is(err, unix.ENXIO) {
		t.Errorf("opening the FIFO for writing: %v, want ENXIO: somebody reads it", err)
	}
}

// A process's root shows what was mounted in its namespace, when it is gone too.
func TestRootOutlivesProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a mount namespace")
	}
	dir := t.TempDir()
	c := exec.Command("unshare", "-m", "sh", "-c", `mount -t tmpfs none "$0" && echo inside >"$0/file" && echo ready && exec sleep 1000`, dir)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			c.Process.Kill()
			c.Wait()
		}
	}()
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("mount in a namespace of its own: %v", err)
	}
	files := OpenFiles(c.Process.Pid)
	root := files.Root().Share()
	files.Close()
	defer root.Close()
	c.Process.Kill()
	c.Wait()
	ended = true
	time.Sleep(10 * time.Millisecond) // the namespace is taken apart meanwhile, if it is
	file, err := root.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if b, err := io.ReadAll(file); err != nil || string(b) != "inside\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("outside of the namespace: %v", err)
	}
}
