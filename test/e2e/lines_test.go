// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Programs in which mix is inlined into work.
const (
	goLines = `package main

func mix(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
}

//go:noinline
func work(n int, x uint64) uint64 {
	for range n {
		x = mix(x)
	}
	return x
}

func main() {
	for x := uint64(1); ; x = work(1e6, x) {
	}
}
`
	cLines = `static inline unsigned long mix(unsigned long x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static __attribute__((noinline)) unsigned long work(long n, unsigned long x)
{
	while (n-- > 0)
		x = mix(x);
	return x;
}

int main(void)
{
	for (volatile unsigned long x = 1;; x = work(1000000, x))
		;
}
`
)

// A program's source with the time of each line, as go tool pprof shows it, and
// the inlined function in all formats that people read: of a stripped program
// in Go, and of one in C with debug information.
func TestLines(t *testing.T) {
	need(t, "go", "golang")
	for _, c := range []struct {
		file, source, prefix string
		build                []string
	}{
		{"main.go", goLines, "main.", []string{"go", "build", "-ldflags=-s -w", "-o", "program", "main.go"}},
		{"main.c", cLines, "", []string{"gcc", "-O2", "-g", "-o", "program", "main.c"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.source), 0o600); err != nil {
				t.Fatal(err)
			}
			build := exec.Command(c.build[0], c.build[1:]...)
			build.Dir = dir
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			program := exec.Command(filepath.Join(dir, "program"))
			if err := program.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				program.Process.Kill()
				program.Wait()
			})
			pprof, svg := filepath.Join(dir, "x.pb.gz"), filepath.Join(dir, "x.svg")
			r := sample(t, program.Process.Pid, "--output", pprof, "--output", svg, "--annotate", "all")
			checkLines(t, pprof, c.prefix)
			text, err := os.ReadFile(svg)
			if err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`<title>` + c.prefix + `mix \([^)]*\) · program · \S*` + c.file + `:\d+(–\d+)? · inlined</title>`).Match(text) {
				t.Error("the flame graph does not say where mix is")
			}
			var inlined, all uint64
			for _, l := range r.lines {
				all += l.Count
				if strings.HasSuffix(strings.Join(l.Frames, ";"), c.prefix+"work;"+c.prefix+"mix_[i]") {
					inlined += l.Count
				}
			}
			if inlined < all/2 {
				t.Errorf("%d of %d samples are in mix", inlined, all)
			}
		})
	}
}

func checkLines(t *testing.T, file, prefix string) {
	t.Helper()
	for _, c := range []struct{ args, want string }{
		{"-list=" + prefix + "mix$", `(?m)^ +\d\S* +\d\S* +\d:	x \^= x`},
		{"-top", prefix + `mix \(inline\)`},
		{"-lines -top", prefix + `mix \S*main\.(go|c):[3456] \(inline\)`},
	} {
		args := append(append([]string{"tool", "pprof"}, strings.Fields(c.args)...), file)
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil || !regexp.MustCompile(c.want).Match(out) {
			t.Errorf("go %v: %v: nothing matches %s in\n%s", args, err, c.want, out)
		}
	}
}
