// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
)

// A function that is called for the first time goes through code of ld.so whose
// CFA is in RBX. Stacks through it are whole.
func TestLazyBinding(t *testing.T) {
	needs(t, "gcc")
	library := build(t, "bindings.c", "libbindings.so", "-D_GNU_SOURCE", "-shared", "-fPIC", "-fno-builtin", "-Wl,-z,lazy")
	target := launch(t, "ready", build(t, "lazy.c", "lazy", "-ldl"), library)
	p := record(t, new(profiler.Recorder), spec(3*time.Second, target.PID))
	// With libc6-dbg the functions of ld.so have names.
	through := share(p, "call_all;[ld-linux-") + share(p, "call_all;_dl_")
	t.Logf("%.1f %% of the samples are in lazy binding: %v", 100*through, p.Meta.Ends)
	if through < 0.02 {
		t.Errorf("%.1f %% of the samples go through lazy binding", 100*through)
	}
	for i := range p.Samples {
		if names := stack(p, &p.Samples[i]); (strings.Contains(names, "call_all;[ld-linux-") || strings.Contains(names, "call_all;_dl_")) && !strings.Contains(names, "main;call_all;") {
			t.Errorf("%d × %s", p.Samples[i].Count, names)
		}
	}
	if got := p.Meta.Ends[profile.EndInvalid.String()]; got*200 > p.Meta.Counts.Samples || whole(p) < 0.95 {
		t.Errorf("%.1f %% whole stacks: %v", 100*whole(p), p.Meta.Ends)
	}
}

// The code that musl's signal handlers return to has no description: it is
// known by what it does.
func TestSignalReturnOfMusl(t *testing.T) {
	needs(t, "musl-gcc")
	for _, flags := range [][]string{{"-static"}, {}} {
		path := filepath.Join(t.TempDir(), "handler")
		args := append([]string{"-O2", "-fomit-frame-pointer", "-o", path, filepath.Join("testdata", "handler.c")}, flags...)
		if out, err := exec.Command("musl-gcc", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		target := launch(t, "ready", path)
		p := record(t, new(profiler.Recorder), spec(1500*time.Millisecond, target.PID))
		target.Stop()
		var handler, wholes uint64
		for i := range p.Samples {
			if names := stack(p, &p.Samples[i]); strings.Contains(names, ";handler;hot") {
				handler += p.Samples[i].Count
				if strings.Contains(names, "main;interrupted;") {
					wholes += p.Samples[i].Count
				}
			}
		}
		t.Logf("%v: %d of %d samples in the handler show what it interrupted: %v", flags, wholes, handler, p.Meta.Ends)
		if handler < 50 || (wholes+p.Meta.Ends[profile.EndFallback.String()])*100 < 95*handler {
			t.Errorf("%v: %d of %d samples in the handler show what it interrupted: %v", flags, wholes, handler, p.Meta.Ends)
		}
	}
}

// The caller of a function of Go's without a frame, and all of the stack below.
func TestFramelessGo(t *testing.T) {
	needs(t, "go")
	for _, flags := range [][]string{nil, {"-ldflags=-s -w"}, {"-buildmode=pie", "-ldflags=-s -w"}} {
		path := filepath.Join(t.TempDir(), "frameless")
		args := append(append([]string{"build", "-o", path}, flags...), "./testdata/frameless")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		target := launch(t, "ready", path)
		p := record(t, new(profiler.Recorder), spec(1500*time.Millisecond, target.PID))
		target.Stop()
		got, ended := share(p, "runtime.main;main.main;main.outer;main.middle;main.leaf"), whole(p)
		t.Logf("%v: %.1f %% show the leaf's caller, %.1f %% are whole: %v", flags, 100*got, 100*ended, p.Meta.Ends)
		for i := range min(3, len(p.Samples)) {
			t.Log(p.Samples[i].Count, stack(p, &p.Samples[i]))
		}
		if got < 0.95 || ended < 0.97 {
			t.Errorf("%v: %.1f %% show the leaf's caller, %.1f %% are whole: %v", flags, 100*got, 100*ended, p.Meta.Ends)
		}
	}
}
