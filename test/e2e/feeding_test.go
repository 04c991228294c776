// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// reached is the share of user stacks that reach their root. Those from before
// the walk by tables was loaded do not count.
func (r *recording) reached() float64 {
	var all uint64
	for end, n := range r.meta.Ends {
		if end != profile.EndFallback.String() && end != profile.EndNone.String() {
			all += n
		}
	}
	return float64(r.meta.Ends[profile.EndRoot.String()]) / float64(max(1, all))
}

// Processes that live for some milliseconds, born and executed one after the
// other, of programs that nobody had mapped when the session began. What the
// kernel is told of one must be there in a fraction of its life. (Some 4 % of
// the samples are in execve and exit, where there is no user stack left.)
func TestShortLivedChildren(t *testing.T) {
	need(t, "gcc", "gcc")
	dir := t.TempDir()
	source := filepath.Join(dir, "small.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"small\"); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		label, command string // for sh
		least          float64
	}{
		{"compiler", "gcc -O2 -c " + source + " -o " + filepath.Join(dir, "small.o"), 0.75},
		{"fork alone", "(a=0; while [ $a -lt 1000 ]; do a=$((a+1)); done)", 0.85},
		{"pipes", "echo x | sed s/x/y/ | sort | tr y z >/dev/null", 0.5}, // hardly anything but execve and exit
	}
	for _, test := range tests {
		t.Run(test.label, func(t *testing.T) {
			shell := launch(t, "ready", "sh", "-c", "echo ready; read go; while :; do "+test.command+"; done")
			time.AfterFunc(300*time.Millisecond, func() { _ = shell.Tell() })
			r := record(t, "--pid", strconv.Itoa(shell.PID), "--children", "--frequency", "499", "--duration", "4s").succeeded(t)
			shell.Stop()
			if got := r.reached(); got < test.least {
				t.Errorf("%.1f %% of the user stacks are complete, want %.0f: %v\n%s", 100*got, 100*test.least, r.meta.Ends, r.hottest(20))
			} else {
				t.Logf("%.1f %% complete of %d samples: %v", 100*got, r.meta.Counts.Samples, r.meta.Ends)
			}
			for _, w := range r.meta.Warnings {
				if containsAll(w, "walked by frame pointer") {
					t.Error(w)
				}
			}
		})
	}
}

// A process that forks and executes another program keeps its own stacks, and
// the children's are those of what they run.
func TestForksAndExecs(t *testing.T) {
	split, err := programs.Read("split.c")
	if err != nil {
		t.Fatal(err)
	}
	need(t, "gcc", "gcc")
	next, err := split.Build(t.TempDir(), "-no-pie") // where programs before it had something else
	if err != nil {
		t.Fatal(err)
	}
	shell := launch(t, "ready", "sh", "-c", "echo ready; while :; do timeout 0.05 "+next+" >/dev/null; done")
	r := record(t, "--pid", strconv.Itoa(shell.PID), "--children", "--frequency", often, "--duration", "3s").succeeded(t)
	shell.Stop()
	run := r.in("main", "run")
	if hot := r.in("main", "run", "hot_a") / max(run, 0.01); run < 0.5 || hot < 0.5 || hot > 0.7 {
		t.Errorf("%.1f %% of the samples are in run, want most; of these %.1f %% in hot_a, want 60:\n%s", 100*run, 100*hot, r.hottest(12))
	}
	if got := r.reached(); got < 0.9 {
		t.Errorf("%.1f %% of the user stacks are complete: %v", 100*got, r.meta.Ends)
	}
}
