// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// constants reads the enum constants of abi.h that begin with prefix.
func constants(t *testing.T, prefix string) map[string]int {
	t.Helper()
	b, err := os.ReadFile("abi.h")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\t(`+prefix+`\w+) = (\d+),`).FindAllStringSubmatch(string(b), -1) {
		found[m[1]], _ = strconv.Atoi(m[2]) // the pattern admits digits only
	}
	return found
}

// The rules mean the same in C and in Go.
func TestRules(t *testing.T) {
	want := map[string]unwind.Op{
		"RULE_NONE": unwind.OpNone, "RULE_SP": unwind.OpSP, "RULE_BP": unwind.OpBP,
		"RULE_FRAME_POINTER": unwind.OpFramePointer, "RULE_ROOT": unwind.OpRoot, "RULE_PLT": unwind.OpPLT,
		"RULE_SIGNAL": unwind.OpSignal, "RULE_DEREF_BP": unwind.OpDerefBP, "RULE_DEREF_SP": unwind.OpDerefSP,
		"RULE_REGISTER": unwind.OpRegister, "RULE_RETURN_REGISTER": unwind.OpReturnRegister,
		"RULE_INVALID": unwind.OpInvalid, "RULE_DEREF_SP_SAVED": unwind.OpDerefSPSaved,
		"RULE_RECORD_SP": unwind.OpRecordSP, "RULE_RECORD_BP": unwind.OpRecordBP,
	}
	got := constants(t, "RULE_")
	delete(got, "RULE_NO_CODE") // the kernel side's own
	if len(got) != len(want) {
		t.Errorf("abi.h has %d rules, Go has %d", len(got), len(want))
	}
	for name, op := range want {
		if got[name] != int(op) {
			t.Errorf("%s is %d in C, %d in Go", name, got[name], op)
		}
	}
}

// So do the ends of stacks.
func TestEnds(t *testing.T) {
	want := map[string]profile.End{
		"END_NONE": profile.EndNone, "END_ROOT": profile.EndRoot, "END_TRUNCATED": profile.EndTruncated,
		"END_NO_TABLE": profile.EndNoTable, "END_UNREADABLE": profile.EndUnreadable,
		"END_BAD_STACK": profile.EndBadStack, "END_BAD_ADDRESS": profile.EndBadAddress,
		"END_INVALID": profile.EndInvalid, "END_FALLBACK": profile.EndFallback,
	}
	got := constants(t, "END_")
	if len(got) != len(want) {
		t.Errorf("abi.h has %d ends, Go has %d", len(got), len(want))
	}
	for name, end := range want {
		if got[name] != int(end) {
			t.Errorf("%s is %d in C, %d in Go", name, got[name], end)
		}
		if strings.HasPrefix(end.String(), "end ") {
			t.Errorf("%s has no name for people", name)
		}
	}
}

// The programs must stay small: verifying them eats the budget of the first
// sample.
func TestProgramSize(t *testing.T) {
	spec, err := bpf.LoadSample()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		if n := len(p.Instructions); n == 0 || n > 5000 {
			t.Errorf("program %s has %d instructions", name, n)
		}
	}
}
