// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// source is the text behind the profile of inlines, by line.
const source = `static int square(int n)
{
	return n * n;
}

int sum(int n)
{
	int s = 0;
	while (n > 0)
		s += square(n--);
	return s;
}

int main(void)
{
	return sum(7);
}
`

// inlines is the profile of a program in which square is inlined into sum.
func inlines(dir string) *profile.Profile {
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Start: 0x1000, Limit: 0x2000, Path: "/nowhere/program"})
	p := b.Profile()
	file := filepath.Join(dir, "program.c")
	frame := func(name string, line int) profile.Frame {
		return profile.Frame{Name: name, SystemName: name, File: file, Line: line}
	}
	at := func(a profile.Addr, isReturn bool, frames ...profile.Frame) profile.AddressID {
		id := b.Address(a, m, isReturn)
		p.Addresses[id].Frames = frames
		return id
	}
	main := at(0x1100, true, frame("main", 16))
	b.Add(profile.Thread{PID: 1, TID: 1, Comm: "program"}, []profile.AddressID{at(0x1010, false, frame("square", 3), frame("sum", 10)), main}, false, 60)
	b.Add(profile.Thread{PID: 1, TID: 1, Comm: "program"}, []profile.AddressID{at(0x1020, false, frame("sum", 9)), main}, false, 40)
	p.Meta = profile.Metadata{FrequencyHz: 100, DurationNs: 1e9}
	p.Count()
	return p
}

// What go tool pprof makes of inlined calls: functions of their own in the
// table, the source with the samples of each line, and chains with lines.
func TestPprofShowsInlines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "program.c"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "x.pb.gz")
	if err := os.WriteFile(file, written(t, inlines(dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string // patterns of lines
	}{
		{"-top", []string{`600ms 60.00% 60.00% +600ms 60.00%  square \(inline\)`, `400ms 40.00%   100% +1000ms   100%  sum$`, ` 0 +0%   100% +1000ms   100%  main$`}},
		{"-top -noinlines", []string{`1s   100%   100% +1s   100%  sum$`}},
		{"-top -lines", []string{`600ms .* square \S*program.c:3 \(inline\)`, `400ms .* sum \S*program.c:9`, `1000ms   100%  main \S*program.c:16`}},
		{"-list=sum", []string{` 400ms +400ms +9:	while`, ` \. +600ms +10:		s \+= square`}},
		{"-list=square", []string{` 600ms +600ms +3:	return n \* n;`}},
		{"-traces", []string{`600ms +square \(inline\)\n +sum\n +main`}},
	} {
		cmd := exec.Command("go", append(append([]string{"tool", "pprof"}, strings.Fields(c.args)...), file)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%v: %v: %s", cmd.Args, err, &stderr)
		}
		for _, want := range c.want {
			if !regexp.MustCompile(`(?m)` + want).Match(out) {
				t.Errorf("%s: nothing matches %s in\n%s", c.args, want, out)
			}
		}
	}
}
