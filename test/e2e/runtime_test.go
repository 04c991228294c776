// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Code that programs make while they run, with the names that they write.

// mapOf is where a process of this namespace writes its perf map, which is gone
// when the test is over.
func mapOf(t *testing.T, pid int) string {
	t.Helper()
	p := fmt.Sprintf("/tmp/perf-%d.map", pid)
	t.Cleanup(func() { os.Remove(p) })
	return p
}

// soon says something to a program that is sampled.
func soon(t *testing.T, p *programs.Process, what string) (happens func()) {
	return after(t, time.Second, func() error { return p.Say(what) })
}

// warned reports a warning, or what is said of code without a name, that is
// missing or that should not be there.
func (r *recording) warned(t *testing.T, want bool, parts ...string) {
	t.Helper()
	all := slices.Clone(r.meta.Warnings)
	for _, u := range r.meta.Unnamed {
		all = append(all, u.Object+": "+u.Why+"; "+u.Remedy)
	}
	if got := slices.ContainsFunc(all, func(w string) bool { return containsAll(w, parts...) }); got != want {
		t.Errorf("a warning with %q: %v, want %v, of\n%s", parts, got, want, strings.Join(all, "\n"))
	}
}

func TestPerfMap(t *testing.T) {
	p := start(t, "perfmap.c", programs.Options{})
	mapOf(t, p.PID)
	r := sample(t, p.PID).as(t, "perfmap.c")
	r.warned(t, false, "made at run time")

	// What was compiled anew has its new name, and only that.
	r = sampleWhile(t, soon(t, p, "t"), p.PID)
	want(t, "the function that came", r.in("run", "third"), 0.4)
	if old := r.in("second"); old > 0 {
		t.Errorf("%.1f %% of the samples have the name of what was replaced", 100*old)
	}

	// The map is gone when names are looked for.
	r = recordWhile(t, soon(t, p, "x"), "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m").succeeded(t)
	want(t, "a process that is gone, and its map", r.in("run", "first function")+r.in("run", "third"), 0.95)
}

// Memory with a name is no object.
func TestPerfMapInMemfd(t *testing.T) {
	p := start(t, "perfmap.c", programs.Options{Args: []string{"memfd"}})
	mapOf(t, p.PID)
	r := sample(t, p.PID).as(t, "perfmap.c")
	r.warned(t, false, "ELF")
}

// The map grows while its process is sampled.
func TestPerfMapGrows(t *testing.T) {
	p := start(t, "perfmap.c", programs.Options{Args: []string{"late"}})
	mapOf(t, p.PID)
	r := sample(t, p.PID)
	want(t, "what is not in the map", r.in("run", "[anonymous]"), 0.4)
	r.warned(t, true, "[anonymous]", "not in the process's own list")
	sampleWhile(t, soon(t, p, "n"), p.PID).as(t, "perfmap.c")
}

// A child runs what its parent made.
func TestPerfMapOfParent(t *testing.T) {
	p := start(t, "perfmap.c", programs.Options{})
	mapOf(t, p.PID)
	r := sampleWhile(t, soon(t, p, "f"), p.PID, "--children", "--duration", "3s").as(t, "perfmap.c")
	if r.meta.Threads != 2 {
		t.Errorf("%d threads, want the parent's and the child's", r.meta.Threads)
	}
}

// In a container a process has another PID, and a /tmp of its own.
func TestPerfMapInNamespaces(t *testing.T) {
	need(t, "unshare", "util-linux")
	program, err := programs.Read("perfmap.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := program.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, "ready", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
		`exec 3<"$1"; mount -t tmpfs none /tmp; exec /proc/self/fd/3`, "sh", path)
	inside, err := process.Children(p.PID)
	if err != nil || len(inside) != 1 {
		t.Fatalf("unshare has children %v: %v", inside, err)
	}
	if _, err := os.Stat("/tmp/perf-1.map"); err == nil {
		t.Fatal("the map of the process in the namespace is in our /tmp")
	}
	sample(t, inside[0]).as(t, "perfmap.c")
	// Its namespaces end with it.
	r := recordWhile(t, soon(t, p, "x"), "--pid", strconv.Itoa(inside[0]), "--frequency", often, "--duration", "1m").succeeded(t)
	want(t, "a container that is gone", r.in("run", "first function")+r.in("run", "second"), 0.95)
}

// What others have put into /tmp is not believed, and is not opened if it is
// not a file.
func TestPerfMapOfOthers(t *testing.T) {
	p := start(t, "perfmap.c", programs.Options{})
	path := mapOf(t, p.PID)
	refused := func(what string, parts ...string) {
		t.Helper()
		r := sample(t, p.PID, "--duration", "1s")
		if named := r.in("first function") + r.in("second"); named > 0 {
			t.Errorf("%s: %.1f %% of the samples have its names", what, 100*named)
		}
		want(t, what, r.in("run", "[anonymous]"), 0.9)
		r.warned(t, true, append(parts, "[anonymous]")...)
	}
	real, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 54321, 54321); err != nil {
		t.Fatal(err)
	}
	refused("a map of another user", filepath.Base(path), "user 54321")

	os.Remove(path)
	if err := unix.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("a FIFO", filepath.Base(path), "not a regular file")

	os.Remove(path)
	if err := os.WriteFile(path, append([]byte("nonsense\n"), make([]byte, 1<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("nonsense", "not in the process's own list")

	if err := os.WriteFile(path, real, 0o600); err != nil {
		t.Fatal(err)
	}
	sample(t, p.PID).as(t, "perfmap.c")
}

// A file of the superuser's counts for the process of somebody else too, since
// that may have been the superuser when it was made, but shows him nothing that
// he may not read. Nor does a link.
func TestPerfMapOfSuperuser(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := programs.Read("perfmap.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := program.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	c := exec.Command(path)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	p, err := programs.Launch(c, "ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	list := mapOf(t, p.PID)
	sample(t, p.PID).as(t, "perfmap.c") // its own

	secret := filepath.Join(dir, "secret")
	b, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, list); err != nil {
		t.Fatal(err)
	}
	r := sample(t, p.PID, "--duration", "1s")
	want(t, "a file that the process may not read", r.in("run", "[anonymous]"), 0.9)
	r.warned(t, true, filepath.Base(list), "not everybody may read it")
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	sample(t, p.PID).as(t, "perfmap.c")
}

// node compiles JavaScript; without a map the warning says how to get one.
func TestNode(t *testing.T) {
	need(t, "node", "nodejs")
	script, err := filepath.Abs("testdata/hot.js")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("perf map", func(t *testing.T) {
		p := node(t, "--perf-basic-prof", "--interpreted-frames-native-stack", script)
		mapOf(t, p.PID)
		isHot(t, sample(t, p.PID), "JS:*work ", "JS:*threeQuarters ", "JS:*oneQuarter ", "JS:*run ")
	})
	t.Run("jitdump", func(t *testing.T) {
		// It writes in pieces of two megabytes, and the last one at its end.
		p := node(t, "--perf-prof", "--interpreted-frames-native-stack", script, "3000")
		r := record(t, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m").succeeded(t)
		isHot(t, r, "JS:*work ", "JS:*threeQuarters ", "JS:*oneQuarter ", "JS:*run ")
	})
	t.Run("neither", func(t *testing.T) {
		p := node(t, script)
		r := sample(t, p.PID)
		want(t, "code without a name", r.in("[anonymous]"), 0.9)
		r.warned(t, true, "[anonymous]", "Node.js", "--perf-basic-prof", "--interpreted-frames-native-stack")
		if !containsAll(r.stderr, "[anonymous]", "Node.js", "--perf-basic-prof") {
			t.Errorf("srprof does not say what to do: %s", r.stderr)
		}
	})
}

// node runs in a folder of its own, where it leaves files.
func node(t *testing.T, args ...string) *programs.Process {
	t.Helper()
	c := exec.Command("node", args...)
	c.Dir = t.TempDir()
	p, err := programs.Launch(c, "ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// any is the share of the samples with one of the functions, the starts
// of whose names these are.
func (r *recording) any(functions []string) float64 {
	var all uint64
	for _, l := range r.lines {
		if slices.ContainsFunc(l.Frames, func(f string) bool {
			return slices.ContainsFunc(functions, func(name string) bool { return strings.HasPrefix(f, name) })
		}) {
			all += l.Count
		}
	}
	return float64(all) / float64(max(1, programs.Samples(r.lines)))
}

// isHot looks for the functions of testdata, of which a compiler may have
// inlined some into others.
func isHot(t *testing.T, r *recording, functions ...string) {
	t.Helper()
	want(t, "its own functions", r.any(functions), 0.9)
	if r.in("[anonymous]") > 0.5 {
		t.Errorf("most samples have frames without a name:\n%s", r.hottest(8))
	}
}

// Java writes its map when it is told to, here while it is sampled.
func TestJava(t *testing.T) {
	need(t, "javac", "openjdk-17-jdk-headless")
	need(t, "jcmd", "openjdk-17-jdk-headless")
	dir := t.TempDir()
	if out, err := exec.Command("javac", "-d", dir, "testdata/Hot.java").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := launch(t, "ready", "java", "-XX:+PreserveFramePointer", "-cp", dir, "Hot")
	mapOf(t, p.PID)
	r := sample(t, p.PID)
	want(t, "code without a name", r.in("[anonymous]"), 0.8)
	r.warned(t, true, "[anonymous]", "Java", fmt.Sprintf("jcmd %d Compiler.perfmap", p.PID), "-XX:+PreserveFramePointer")

	// What is compiled after that, and what was thrown away before, is not in
	// the map. The compiler settles in its own time: all there is to do is done.
	functions := []string{"int Hot.work(", "int Hot.threeQuarters(", "int Hot.oneQuarter(", "int Hot.run(", "void Hot.main("}
	for try := range 6 {
		r = sampleWhile(t, after(t, time.Second, func() error {
			out, err := exec.Command("jcmd", strconv.Itoa(p.PID), "Compiler.perfmap").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		}), p.PID, "--duration", "3s")
		if all := r.any(functions); all > 0.9 || try == 5 {
			isHot(t, r, functions...)
			return
		}
	}
}

// Python's functions are not made into code before 3.12, nor without a flag.
func TestPython(t *testing.T) {
	need(t, "python3", "python3")
	p := launch(t, "ready", "python3", "-c", "print('ready', flush=True)\nwhile True: pass")
	r := sample(t, p.PID)
	want(t, "the interpreter", r.in("_PyEval_EvalFrameDefault"), 0.8)
	r.warned(t, true, "python3", "interpreter", "-X perf")
}

// A BPF program is code of the kernel's, under a name of its own, in an object
// of its own.
func TestBPFProgram(t *testing.T) {
	p := start(t, "bpf.c", programs.Options{})
	f := recordFunctions(t, p.PID, "--duration", "2s")
	if b, err := os.ReadFile("/proc/sys/net/core/bpf_jit_kallsyms"); err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Skipf("the kernel does not tell BPF programs by name: net.core.bpf_jit_kallsyms is %q, %v", b, err)
	}
	named := 0.0
	for name, share := range f.self {
		if strings.HasPrefix(name, "bpf_prog_") && strings.HasSuffix(name, "_long_filter") {
			named += share
		}
	}
	want(t, "the program", named, 0.4)
	want(t, "BPF programs as an object", f.object["[bpf]"], 0.4)
}
