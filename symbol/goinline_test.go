// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// oracle is a program that prints what the runtime itself takes for the calls
// at a sample of the addresses of its own code: how far it is from runtime.text, then for each call,
// innermost first, its name, file and line.
var oracle = map[string]string{
	"go.mod":  "module oracle\n\ngo 1.25\n",
	"empty.s": "",
	"main.go": `package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"unsafe"
)

type funcInfo struct{ f, module unsafe.Pointer }
type unwinder struct {
	f    funcInfo
	tree unsafe.Pointer
}
type frame struct {
	pc    uintptr
	index int32
}
type function struct {
	module          unsafe.Pointer
	name, startLine int32
	id              uint8
}

//go:linkname findfunc runtime.findfunc
func findfunc(pc uintptr) funcInfo

//go:linkname newUnwinder runtime.newInlineUnwinder
func newUnwinder(f funcInfo, pc uintptr) (unwinder, frame)

//go:linkname next runtime.(*inlineUnwinder).next
func next(u *unwinder, f frame) frame

//go:linkname source runtime.(*inlineUnwinder).srcFunc
func source(u *unwinder, f frame) function

//go:linkname nameOf runtime.srcFunc.name
func nameOf(f function) string

//go:linkname line runtime.funcline1
func line(f funcInfo, pc uintptr, strict bool) (string, int32)

//go:linkname text runtime.text
var text byte

//go:linkname etext runtime.etext
var etext byte

func main() {
	if len(os.Args) > 9 { // for their code
		json.NewEncoder(os.Stdout).Encode(http.DefaultClient)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	start, limit := uintptr(unsafe.Pointer(&text)), uintptr(unsafe.Pointer(&etext))
	for pc := start; pc < limit; pc += 61 {
		f := findfunc(pc)
		if f.f == nil {
			continue
		}
		fmt.Fprintf(out, "%x", pc-start)
		u, at := newUnwinder(f, pc)
		for ; at.pc != 0; at = next(&u, at) {
			file, n := line(f, at.pc, false)
			fmt.Fprintf(out, "\t%s\t%s\t%d", nameOf(source(&u, at)), file, n)
		}
		fmt.Fprintln(out)
	}
}
`,
}

// The calls at the addresses of a program, with their files and lines, are what
// the runtime says while it runs; the program's file is read, stripped.
func TestGoInlinedCalls(t *testing.T) {
	for _, c := range []struct{ cgo, mode, link string }{
		{"0", "exe", ""}, {"0", "pie", ""}, {"1", "exe", ""}, {"1", "pie", " -linkmode=external"},
	} {
		t.Run(c.cgo+c.mode+c.link, func(t *testing.T) {
			dir := write(t, oracle)
			command(t, dir, "env", "CGO_ENABLED="+c.cgo, "go", "build", "-o", "x", "-buildmode="+c.mode, "-ldflags=-s -w -checklinkname=0"+c.link, ".")
			out, err := exec.Command(filepath.Join(dir, "x")).Output()
			if err != nil {
				t.Fatal(err)
			}
			compareCalls(t, filepath.Join(dir, "x"), out)
		})
	}
}

func compareCalls(t *testing.T, path string, said []byte) {
	t.Helper()
	table, err := openPclntab(openFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	var addrs []profile.ObjAddr
	var want []string
	inlined := 0
	for in := bufio.NewScanner(bytes.NewReader(said)); in.Scan(); {
		first, rest, _ := strings.Cut(in.Text(), "\t")
		a, err := strconv.ParseUint(first, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		addrs, want = append(addrs, table.Text+profile.ObjAddr(a)), append(want, strings.ReplaceAll(rest, "\t?\t0", "\t\t0"))
		if strings.Count(rest, "\t") > 2 {
			inlined++
		}
	}
	if len(addrs) < 10_000 || inlined < 1000 {
		t.Fatalf("%d addresses, %d with inlined calls", len(addrs), inlined)
	}
	got := make([]string, len(addrs))
	err = table.Find(addrs, func(i int, calls []Call) {
		for j, c := range calls {
			got[i] += fmt.Sprintf("%.*s%s\t%s\t%d", min(j, 1), "\t", c.Name, c.File, c.Line)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range want {
		if strings.HasPrefix(want[i], "\t") { // to the runtime the first name of all is none
			_, rest, _ := strings.Cut(got[i], "\t")
			got[i] = "\t" + rest
		}
		if got[i] != want[i] {
			if differ++; differ <= 10 {
				t.Errorf("%v:\n got %q\nwant %q", addrs[i], got[i], want[i])
			}
		}
	}
	t.Logf("%d addresses, %d with inlined calls, %d differ", len(addrs), inlined, differ)
}
