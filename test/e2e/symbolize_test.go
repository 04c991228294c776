// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// bare is a command that sees no debug files that this machine has installed,
// as another machine may.
func bare(command ...string) *exec.Cmd {
	const hide = `if [ -d /usr/lib/debug ]; then mount -t tmpfs none /usr/lib/debug; fi && exec "$@"`
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", hide, "sh"}, command...)...)
}

// output runs a command that must succeed.
func output(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%q: %v: %s", c.Args, err, &stderr)
	}
	return string(out)
}

// stripped builds a program and strips it, so that its names are in debug alone.
func stripped(t *testing.T, program, dir, debug string, flags []string, keep ...string) {
	t.Helper()
	p, err := programs.Read(program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Build(dir, append([]string{"-g", "-Wl,--build-id"}, flags...)...); err != nil {
		t.Fatal(err)
	}
	objects := []string{strings.TrimSuffix(program, ".c")}
	if p.Library != "" {
		objects = append(objects, strings.TrimSuffix(p.Library, ".c")+".so")
	}
	for _, name := range objects {
		from := filepath.Join(dir, name)
		to := filepath.Join(debug, name)
		if len(keep) == 0 {
			id := strings.TrimSpace(strings.SplitN(output(t, exec.Command("sh", "-c", `readelf -n "$1" | sed -n 's/.*Build ID: //p'`, "sh", from)), "\n", 2)[0])
			to = filepath.Join(debug, ".build-id", id[:2], id[2:]+".debug")
			keep = []string{"objcopy", "--only-keep-debug"}
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		output(t, exec.Command(keep[0], append(keep[1:len(keep):len(keep)], from, to)...))
		output(t, exec.Command("strip", "--strip-all", from))
	}
}

// A stripped program is recorded and is gone; its names are found later, where
// its debug files are: the same as those of a program with names.
func TestSymbolizeLater(t *testing.T) {
	need(t, "unshare", "util-linux")
	need(t, "objcopy", "binutils")
	need(t, "addr2line", "binutils")
	tests := []struct {
		label, program string
		flags, keep    []string // keep is what makes the debug file; by build ID where it is empty
	}{
		{"by build ID", "split.c", nil, nil},
		{"debug file in a folder", "split.c", nil, []string{"objcopy", "--only-keep-debug"}},
		{"unstripped object in a folder", "split.c", nil, []string{"cp"}},
		{"fixed address", "split.c", []string{"-no-pie"}, []string{"objcopy", "--only-keep-debug"}},
		{"static", "split.c", []string{"-static"}, nil},
		{"one segment", "split.c", []string{"-Wl,-z,noseparate-code"}, []string{"objcopy", "--only-keep-debug"}},
		{"library", "shared.c", nil, []string{"objcopy", "--only-keep-debug"}},
	}
	for _, test := range tests {
		t.Run(test.label, func(t *testing.T) {
			need(t, "gcc", "gcc")
			dir, debug, out := t.TempDir(), t.TempDir(), t.TempDir()
			stripped(t, test.program, dir, debug, test.flags, test.keep...)
			program := filepath.Join(dir, strings.TrimSuffix(test.program, ".c"))
			p := launchBare(t, program)
			file := filepath.Join(out, "x.pb.gz")
			output(t, bare(daemons.Path("srprof"), "record", "--pid", fmt.Sprint(p.PID), "--frequency", often, "--duration", "2s", "--output", file))
			p.Stop()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			before := pprofOf(t, file)
			if names := strings.Join(namesOf(before), " "); strings.Contains(names, "hot_a") || !strings.Contains(names, "["+filepath.Base(program)+"]") {
				t.Fatalf("the stripped program has names: %s", names)
			}
			refused, err := bare(daemons.Path("srprof"), "symbolize", file, "--output", filepath.Join(out, "no.svg")).CombinedOutput()
			if exitCode(t, err) != 1 || !containsAll(string(refused), filepath.Base(program), "build ID", "[nothing_named]") {
				t.Errorf("without files srprof symbolize exits with %d: %s", exitCode(t, err), refused)
			}
			named := filepath.Join(out, "named.pb.gz")
			text := filepath.Join(out, "named.folded")
			output(t, bare(daemons.Path("srprof"), "symbolize", file, "--debug-dir", debug, "--output", named, "--output", text))
			lines := foldedOf(t, text)
			r := &recording{lines: lines}
			r.as(t, test.program)
			after := pprofOf(t, named)
			sameBut(t, before, after)
			checkNames(t, before, after, filepath.Base(program), debug)
		})
	}
}

func launchBare(t *testing.T, command ...string) *programs.Process {
	t.Helper()
	p, err := programs.Launch(bare(command...), "ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func pprofOf(t *testing.T, file string) *pb.Profile {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := pb.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func namesOf(p *pb.Profile) []string {
	var names []string
	for _, f := range p.Function {
		names = append(names, f.Name)
	}
	return names
}

func foldedOf(t *testing.T, file string) []folded.Line {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := folded.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// sameBut checks that only names differ: samples, addresses, mappings, labels
// and how it was recorded stay.
func sameBut(t *testing.T, before, after *pb.Profile) {
	t.Helper()
	of := func(p *pb.Profile) string {
		p = p.Copy()
		p.Function = nil
		for _, l := range p.Location {
			l.Line = nil
		}
		for _, m := range p.Mapping {
			m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames = false, false, false, false
		}
		p.Comments = nil
		return p.String()
	}
	if d := cmp.Diff(of(before), of(after)); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	has := strings.Join(after.Comments, "\n") + "\n"
	for _, c := range before.Comments {
		if !strings.HasPrefix(c, "unnamed: ") && !strings.HasPrefix(c, "counts: ") && !strings.Contains(has, c+"\n") {
			t.Errorf("the comment %q is gone", c)
		}
	}
}

// checkNames compares the names that an object's addresses got with those of
// addr2line.
func checkNames(t *testing.T, before, after *pb.Profile, object, debug string) {
	t.Helper()
	var addresses, got []string
	for i, l := range before.Location {
		if len(l.Line) != 1 || l.Line[0].Function.Name != "["+object+"]" {
			continue
		}
		_, address, ok := strings.Cut(l.Line[0].Function.SystemName, "+")
		if !ok {
			t.Errorf("%#x has no object address: %+v", l.Address, l.Line[0].Function)
			continue
		}
		addresses = append(addresses, address)
		lines := after.Location[i].Line
		got = append(got, lines[len(lines)-1].Function.SystemName)
	}
	if len(addresses) == 0 {
		t.Fatal("no address of the program was without a name")
	}
	want := outermost(t, debugFileOf(t, debug, object), addresses)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-addr2line +symbolize:\n%s", d)
	}
}

// debugFileOf is the debug file that stripped made for an object: by its name,
// or the only one.
func debugFileOf(t *testing.T, debug, object string) string {
	t.Helper()
	file := filepath.Join(debug, object)
	if _, err := os.Stat(file); err != nil {
		found, err := filepath.Glob(filepath.Join(debug, ".build-id", "*", "*.debug"))
		if err != nil || len(found) != 1 {
			t.Fatalf("debug files are %q, %v", found, err)
		}
		file = found[0]
	}
	return file
}

// outermost are the functions that addresses are in, by addr2line: the last of
// the calls that are inlined there.
func outermost(t *testing.T, file string, addresses []string) []string {
	t.Helper()
	var names []string
	for _, a := range addresses {
		lines := strings.Split(strings.TrimSpace(output(t, exec.Command("addr2line", "-f", "-i", "-e", file, a))), "\n")
		names = append(names, lines[len(lines)-2])
	}
	return names
}

// The C library has names for what others call; the others are in its debug
// package, which need not be installed to be used.
func TestSymbolizeLibc(t *testing.T) {
	need(t, "unshare", "util-linux")
	need(t, "gcc", "gcc")
	need(t, "dpkg-deb", "dpkg")
	debug := libcDebug(t)
	p, err := programs.Read("calls.c")
	if err != nil {
		t.Fatal(err)
	}
	program, err := p.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	target := launchBare(t, program)
	if err := target.Tell(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "x.pb.gz")
	output(t, bare(daemons.Path("srprof"), "record", "--pid", fmt.Sprint(target.PID), "--frequency", often, "--duration", "3s", "--output", file))
	target.Stop()
	text := filepath.Join(dir, "x.folded")
	c := bare(daemons.Path("srprof"), "symbolize", file, "--debug-dir", filepath.Join(debug, "usr/lib/debug"), "--output", text)
	output(t, c)
	lines := foldedOf(t, text)
	has := func(name string) uint64 {
		return programs.Count(lines, func(stack []string) bool { return strings.Contains(strings.Join(stack, ";"), name) })
	}
	if left, sorted := has("[libc.so.6]"), has(";msort_with_tmp"); left > 0 || sorted == 0 {
		t.Errorf("%d samples have nameless frames of libc, %d its local functions, in\n%s", left, sorted, (&recording{lines: lines}).hottest(12))
	}
	if got, want := programs.Samples(lines), total(pprofOf(t, file)); got != want {
		t.Errorf("%d samples, want %d", got, want)
	}
}

func total(p *pb.Profile) (n uint64) {
	for _, s := range p.Sample {
		n += uint64(s.Value[0])
	}
	return n
}

// libcDebug unpacks libc6-dbg of the version that is installed.
func libcDebug(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("sh", "-ec", `apt-get download -q libc6-dbg="$(dpkg-query -W -f '${Version}' libc6)" >&2 && dpkg-deb -x libc6-dbg_*.deb .`)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		if os.Getenv(requireAll) != "" {
			t.Fatalf("libc6-dbg cannot be had: %v\n%s", err, out)
		}
		t.Skipf("libc6-dbg cannot be had: %v\n%s", err, out)
	}
	return dir
}

// All that a recording has names for is named the same afterwards, to the last
// line of its folded text: functions, inlined calls, files and lines.
func TestSymbolizeAgain(t *testing.T) {
	need(t, "unshare", "util-linux")
	for _, test := range []struct {
		program string
		flags   []string
	}{{"split.c", []string{"-g"}}, {"split.cpp", []string{"-g"}}, {"goroutines", nil}} {
		t.Run(test.program, func(t *testing.T) {
			dir, out := t.TempDir(), t.TempDir()
			p, err := programs.Read(test.program)
			if err != nil {
				t.Fatal(err)
			}
			need(t, p.Compiler(), p.Compiler())
			program, err := p.Build(dir, test.flags...)
			if err != nil {
				t.Fatal(err)
			}
			target := launchBare(t, program)
			file, text := filepath.Join(out, "x.pb.gz"), filepath.Join(out, "x.folded")
			output(t, bare(daemons.Path("srprof"), "record", "--pid", fmt.Sprint(target.PID), "--frequency", often, "--duration", "2s", "--output", file, "--output", text))
			target.Stop()
			want := pprofOf(t, file)
			for i, m := range unname(t, file, out) {
				if strings.HasPrefix(m, "/") {
					output(t, exec.Command("cp", m, filepath.Join(dir, fmt.Sprint(i))))
				}
			}
			again, named := filepath.Join(out, "again.folded"), filepath.Join(out, "again.pb.gz")
			output(t, bare(daemons.Path("srprof"), "symbolize", filepath.Join(out, "nameless.pb.gz"), "--debug-dir", dir, "--output", again, "--output", named))
			got := pprofOf(t, named)
			if d := cmp.Diff(linesOf(want), linesOf(got)); d != "" {
				t.Errorf("-recorded +named afterwards:\n%s", d)
			}
			if a, b := contentOf(t, text), contentOf(t, again); a != b {
				t.Errorf("-recorded +named afterwards:\n%s", cmp.Diff(a, b))
			}
		})
	}
}

// unname writes nameless.pb.gz, in which no file's code has a name, and returns
// the files.
func unname(t *testing.T, file, out string) []string {
	t.Helper()
	p := pprofOf(t, file)
	var files []string
	for _, m := range p.Mapping {
		files = append(files, m.File)
	}
	for _, l := range p.Location {
		if l.Mapping != nil && strings.HasPrefix(l.Mapping.File, "/") {
			name := "[" + filepath.Base(l.Mapping.File) + "]"
			f := &pb.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name}
			p.Function = append(p.Function, f)
			l.Line = []pb.Line{{Function: f}}
		}
	}
	w, err := os.Create(filepath.Join(out, "nameless.pb.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Write(w); err != nil {
		t.Fatal(err)
	}
	return files
}

// linesOf are the calls at each location of a profile's files.
func linesOf(p *pb.Profile) []string {
	var all []string
	for _, l := range p.Location {
		if l.Mapping == nil || !strings.HasPrefix(l.Mapping.File, "/") {
			continue
		}
		s := fmt.Sprintf("%#x", l.Address)
		for _, line := range l.Line {
			name := line.Function.SystemName
			if strings.HasPrefix(line.Function.Name, "[") { // its system name is its object address
				name = line.Function.Name
			}
			s += fmt.Sprintf(" %s %s:%d", name, line.Function.Filename, line.Line)
		}
		all = append(all, s)
	}
	return all
}

func contentOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
