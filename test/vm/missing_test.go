// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// missing are the rows of docs/limits.md that take another kernel than the one
// that tests run on.
var missing = []struct {
	row    string
	kernel string
	line   []string // more on the kernel's command line; see recordWithout
	exit   string
}{
	{"limit on locked memory, before Linux 5.11, no CAP_SYS_RESOURCE", "5.10", []string{"SRPROF_VM_MISSING=memlock"}, "0"},
	{"kernel.perf_event_paranoid 3 (Debian's default), no CAP_SYS_ADMIN", "6.1", []string{"SRPROF_VM_MISSING=paranoid"}, "4"},
	{"lockdown=integrity", "6.1", []string{"SRPROF_VM_MISSING=integrity", "lockdown=integrity"}, "0"},
	{"lockdown=confidentiality", "6.1", []string{"SRPROF_VM_MISSING=confidentiality", "lockdown=confidentiality"}, "0"},
}

// What srprof says is the sentence that the table has.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	images := images(t)
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	const mark = "\n| in a virtual machine: "
	if n := strings.Count(string(page), mark); n != len(missing) {
		t.Errorf("docs/limits.md has %d rows of virtual machines, %d are tested", n, len(missing))
	}
	for _, m := range missing {
		t.Run(m.row, func(t *testing.T) {
			_, rest, ok := strings.Cut(string(page), mark+m.row+" | ")
			row, _, _ := strings.Cut(rest, "\n")
			if !ok {
				t.Fatal("docs/limits.md has no such row")
			}
			sentence := ""
			if _, after, ok := strings.Cut(row, "`"); ok {
				sentence, _, _ = strings.Cut(after, "`")
			}
			k := &kernels[slices.IndexFunc(kernels, func(k kernel) bool { return k.name == m.kernel })]
			results, console, err := runMachine(t, k, images[k.name], m.line...)
			if err != nil {
				t.Fatalf("%v; the console's end:\n%s", err, console)
			}
			checkSaid(t, results, sentence, m.exit)
		})
	}
}

// checkSaid looks at what srprof said, line by line: the sentence, what was
// written, the exit code.
func checkSaid(t *testing.T, results []result, sentence, exit string) {
	var warnings []string
	ended := false
	for _, r := range results {
		t.Log(r.what, r.name, r.detail)
		switch {
		case r.what == "FAIL":
			t.Error(r.detail)
		case r.what != "log" || strings.HasPrefix(r.detail, "in ") || strings.HasPrefix(r.detail, "srprof: wrote "):
		case strings.HasPrefix(r.detail, "exit code "):
			if ended = true; r.detail != "exit code "+exit {
				t.Errorf("%s, want %s", r.detail, exit)
			}
		default:
			warnings = append(warnings, r.detail)
		}
	}
	if !ended {
		t.Fatal("srprof was not run")
	}
	got := regexp.MustCompile(`^srprof: `).ReplaceAllString(strings.Join(warnings, "\n"), "")
	if got != sentence {
		t.Errorf("srprof says\n%s\nwant\n%s", got, sentence)
	}
}
