// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// compilers of C, by architecture.
var compilers = map[string]string{"amd64": "gcc", "arm64": "aarch64-linux-gnu-gcc"}

// targets are the programs that are recorded inside, all static: there is no
// library. Those in C are built as distributions do, without frame pointers;
// a call at a function's end stays a call, or the stack is not what the source
// says.
var targets = []string{"depth.c", "syscalls.c", "threads.c", "forks.c", "goroutines"}

// variants are flags, by architecture, with which the first target is built
// once more: on arm64 so that it signs its return addresses.
var variants = map[string]string{"arm64": "-mbranch-protection=pac-ret"}

// initramfs builds what the kernel unpacks as its first file system, in the
// format of Documentation/driver-api/early-userspace/buffer-format.rst.
func initramfs(t *testing.T, arch, to string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"init": filepath.Join(dir, "init"), "bin/sampler.test": filepath.Join(dir, "sampler.test"), "bin/srprof": filepath.Join(dir, "srprof")}
	goTool(t, arch, "build", "-ldflags=-s -w", "-o", files["init"], "./init")
	goTool(t, arch, "build", "-ldflags=-s -w", "-o", files["bin/srprof"], "../../cmd/srprof")
	goTool(t, arch, "test", "-c", "-ldflags=-s -w", "-o", files["bin/sampler.test"], "../../sampler")
	for _, name := range targets {
		p, err := programs.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		binary := strings.TrimSuffix(name, filepath.Ext(name))
		path := filepath.Join(dir, binary)
		files["bin/"+binary] = path
		if p.Compiler() == "go" {
			goTool(t, arch, append(append([]string{"build"}, p.Flags...), "-o", path, "../programs/"+name)...)
			continue
		}
		compile(t, arch, name, path, p.Flags...)
		if flag := variants[arch]; flag != "" && name == targets[0] {
			files["bin/"+binary+"-variant"] = path + "-variant"
			compile(t, arch, name, path+"-variant", append([]string{flag}, p.Flags...)...)
		}
	}
	if err := pack(files, to); err != nil {
		t.Fatal(err)
	}
}

func compile(t *testing.T, arch, name, to string, flags ...string) {
	t.Helper()
	args := append([]string{"-static", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-o", to, "../programs/" + name}, flags...)
	if out, err := exec.Command(compilers[arch], args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", compilers[arch], strings.Join(args, " "), err, out)
	}
}

func goTool(t *testing.T, arch string, args ...string) {
	t.Helper()
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// pack writes a compressed archive with these files, the folders they need and
// the console.
func pack(files map[string]string, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	a := archive{w: z}
	const folder, device, executable = 0o040755, 0o020600, 0o100755
	for _, dir := range []string{"dev", "bin", "proc", "sys", "tmp"} {
		a.add(dir, folder, 0, nil)
	}
	a.add("dev/console", device, 5<<8|1, nil)
	for name, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.add(name, executable, 0, b)
	}
	a.add("TRAILER!!!", 0, 0, nil)
	if a.err != nil {
		return a.err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

// archive writes the "newc" format of cpio.
type archive struct {
	w     io.Writer
	count int
	err   error
}

func (a *archive) add(name string, mode, device int, content []byte) {
	a.addOf(name, mode, device, 0, 0, content)
}

// addOf adds a file that belongs to somebody.
func (a *archive) addOf(name string, mode, device, user, group int, content []byte) {
	if a.err != nil {
		return
	}
	a.count++
	var b bytes.Buffer
	b.WriteString("070701")
	for _, v := range []int{a.count, mode, user, group, 1, 0, len(content), 0, 0, device >> 8, device & 0xff, len(name) + 1, 0} {
		fmt.Fprintf(&b, "%08X", v)
	}
	b.WriteString(name)
	b.WriteByte(0)
	b.Write(padding(b.Len()))
	b.Write(content)
	b.Write(padding(len(content)))
	_, a.err = a.w.Write(b.Bytes())
}

// padding is what lacks to a multiple of four.
func padding(n int) []byte { return make([]byte, -n&3) }
