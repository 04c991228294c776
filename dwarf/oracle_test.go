// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

const symbolizer = "llvm-symbolizer-14"

// need skips a test that lacks a program, or fails it where all are to be there.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text.String())
	}
	return string(out)
}

func openObject(t testing.TB, path string) *object.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// sample returns up to n addresses of an object's code, the same ones each time.
func sample(o *object.File, n int) []profile.ObjAddr {
	random := rand.New(rand.NewPCG(1, 2))
	var all []profile.ObjAddr
	total := uint64(0)
	for _, s := range o.Sections() {
		if s.Executable() {
			total += s.Size
		}
	}
	for _, s := range o.Sections() {
		if s.Executable() && s.Size > 0 {
			for range uint64(n)*s.Size/total + 1 {
				all = append(all, s.ObjAddr+profile.ObjAddr(random.Uint64N(s.Size)))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// findAll returns the calls at each address.
func findAll(t testing.TB, d *Data, addrs []profile.ObjAddr) [][]Call {
	t.Helper()
	all := make([][]Call, len(addrs))
	err := d.Find(addrs, func(i int, calls []Call) {
		if all[i] != nil {
			t.Errorf("%v is found twice", addrs[i])
		}
		all[i] = slices.Clone(calls)
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// oracle asks LLVM's symbolizer for the same. It takes names from the symbol
// table if it can, so it is given a copy without one.
func oracle(t testing.TB, file string, addrs []profile.ObjAddr) [][]Call {
	t.Helper()
	bare := filepath.Join(t.TempDir(), filepath.Base(file))
	run(t, "", "llvm-objcopy-14", "--only-keep-debug", "--remove-section", ".symtab", file, bare)
	if p := file + ".dwp"; exists(p) {
		return ask(t, bare, addrs, "--dwp="+p)
	}
	return ask(t, bare, addrs)
}

func ask(t testing.TB, file string, addrs []profile.ObjAddr, options ...string) [][]Call {
	t.Helper()
	cmd := exec.Command(symbolizer, append([]string{"--obj=" + file, "--no-demangle", "--output-style=JSON"}, options...)...)
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", uint64(a))
	}
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all [][]Call
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var x struct {
			Symbol []struct {
				FunctionName, FileName string
				Line                   int
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		var calls []Call
		for i, s := range x.Symbol {
			calls = append(calls, Call{s.FunctionName, s.FileName, s.Line, i < len(x.Symbol)-1})
		}
		all = append(all, calls)
	}
	if err := cmd.Wait(); err != nil || len(all) != len(addrs) {
		t.Fatalf("%v: %d answers to %d questions", err, len(all), len(addrs))
	}
	return all
}

// differ says in what our calls are not theirs; "" if they agree. LLVM knows
// no qualified names, does not clean paths, and of DWARF 5 puts a compiler's
// directory that is relative before itself.
func differ(ours, theirs []Call) string {
	if len(theirs) == 1 && theirs[0].Name == "" && theirs[0].File == "" {
		theirs = nil
	}
	if len(ours) != len(theirs) {
		return "calls"
	}
	for i, o := range ours {
		t := theirs[i]
		if o.Name != t.Name && !strings.HasSuffix(o.Name, "::"+t.Name) {
			return "name"
		}
		file := path.Clean(t.File)
		if twice, ok := strings.CutSuffix(file, "/"+o.File); ok && strings.HasPrefix(o.File, twice+"/") {
			file = o.File
		}
		if t.File != "" && file != o.File {
			return "file"
		}
		if o.Line != t.Line {
			return "line"
		}
	}
	return ""
}

// agree compares all we find with what the oracle says.
func agree(t *testing.T, file string, d *Data, addrs []profile.ObjAddr, theirs [][]Call) {
	t.Helper()
	ours := findAll(t, d, addrs)
	bad, known, inlined := map[string]int{}, 0, 0
	total := 0
	for i, a := range addrs {
		if len(ours[i]) > 0 {
			known++
		}
		if len(ours[i]) > 1 {
			inlined++
		}
		if why := differ(ours[i], theirs[i]); why != "" {
			if total++; bad[why] < 3 {
				t.Logf("%s %v: %s differs\nours   %v\ntheirs %v", file, a, why, ours[i], theirs[i])
			}
			bad[why]++
		}
	}
	t.Logf("%s: %d addresses, %d known, %d with inlined calls, %d differ %v", filepath.Base(file), len(addrs), known, inlined, total, bad)
	if known == 0 || total*1000 > len(addrs) {
		t.Errorf("%s: %d of %d addresses differ", file, total, len(addrs))
	}
}
