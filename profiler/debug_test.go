// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"debug/elf"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// stripped is a program without names, and where they are.
type stripped struct {
	program string
	debug   string // the debug file
	place   string // where it belongs, below a folder for debug files
}

func buildStripped(t *testing.T, flags ...string) stripped {
	t.Helper()
	s := stripped{program: build(t, "stripped.c", "stripped", append([]string{"-g"}, flags...)...)}
	s.debug = s.program + ".debug"
	run(t, "objcopy", "--only-keep-debug", s.program, s.debug)
	run(t, "strip", s.program)
	f, err := elf.Open(s.program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note, err := f.Section(".note.gnu.build-id").Data()
	if err != nil || len(note) < 18 {
		t.Fatal(note, err)
	}
	id := hex.EncodeToString(note[16:])
	s.place = filepath.Join(".build-id", id[:2], id[2:]+".debug")
	return s
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", command, err, out)
	}
}

// named wants the inlined call and its caller, with their lines.
func named(t *testing.T, p *profile.Profile) {
	t.Helper()
	if got := share(p, "main;stripped_away;innermost"); got < 0.9 {
		t.Errorf("%.1f %% of the samples are in main;stripped_away;innermost: %+v", 100*got, p.Meta.Unnamed)
	}
	lines := 0
	for i := range p.Addresses {
		for _, f := range p.Addresses[i].Frames {
			if f.Name == "innermost" {
				if filepath.Base(f.File) != "stripped.c" || f.Line < 12 || f.Line > 16 {
					t.Errorf("innermost is at %s:%d", f.File, f.Line)
				}
				lines++
			}
		}
	}
	if lines == 0 {
		t.Error("innermost is nowhere")
	}
}

// A container has debug files of its own, which are found there, and also when
// the target has exited and its mount namespace with it.
func TestDebugFileInNamespace(t *testing.T) {
	needs(t, "gcc", "objcopy", "strip", "unshare")
	s := buildStripped(t)
	inside := `mount -t tmpfs none /usr/lib/debug && mkdir -p "/usr/lib/debug/${2%/*}" && cp "$1" "/usr/lib/debug/$2" && exec "$0" $3`
	if err := os.MkdirAll(debugfile.SystemDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, seconds string
		ended         profile.Ended
	}{{"running", "1000", profile.EndedDuration}, {"exited", "1", profile.EndedExited}} {
		target := launch(t, "ready", "unshare", "-m", "sh", "-c", inside, s.program, s.debug, s.place, c.seconds)
		duration := time.Second
		if c.ended == profile.EndedExited {
			duration = time.Minute
		}
		p := record(t, new(profiler.Recorder), spec(duration, target.PID))
		target.Stop()
		if p.Meta.Ended != c.ended {
			t.Errorf("%s: it ended by %v", c.name, p.Meta.Ended)
		}
		named(t, p)
	}
	if _, err := os.Stat(filepath.Join(debugfile.SystemDir, s.place)); err == nil {
		t.Error("the host has the debug file too, so nothing was tested")
	}
}

// Debug files of one package share what they have in common in an alternate file.
func TestAlternateFile(t *testing.T) {
	needs(t, "gcc", "objcopy", "strip", "dwz")
	s, other := buildStripped(t), buildStripped(t, "-DOTHER")
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(s.place), ".dwz"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "dwz", "-m", filepath.Join(dir, ".dwz", "common.debug"), "-M", "../../.dwz/common.debug", s.debug, other.debug)
	run(t, "cp", s.debug, filepath.Join(dir, s.place))
	target := launch(t, "ready", s.program)
	r := &profiler.Recorder{Debug: debugfile.Options{Dirs: []string{dir}}}
	named(t, record(t, r, spec(time.Second, target.PID)))
}

// Without any debug file the reason says so; with a server there is one.
func TestDebuginfod(t *testing.T) {
	needs(t, "gcc", "objcopy", "strip")
	s := buildStripped(t)
	target := launch(t, "ready", s.program)
	p := record(t, new(profiler.Recorder), spec(700*time.Millisecond, target.PID))
	if len(p.Meta.Unnamed) == 0 || !strings.Contains(p.Meta.Unnamed[0].Why, debugfile.ErrNone.Error()) {
		t.Errorf("without a debug file: %+v", p.Meta.Unnamed)
	}
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked += r.URL.Path + " "; strings.Contains(r.URL.Path, strings.TrimSuffix(filepath.Base(s.place), ".debug")) {
			http.ServeFile(w, r, s.debug)
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	r := &profiler.Recorder{Debug: debugfile.Options{Servers: debugfile.ServerOptions{
		URLs: []string{server.URL}, Cache: debugfile.Cache{Dir: t.TempDir()}, Time: time.Minute}}}
	p = record(t, r, spec(time.Second, target.PID))
	named(t, p)
	if !strings.Contains(asked, "/debuginfo") {
		t.Errorf("asked for %s", asked)
	}
}

// The hottest function that is shown while sampling goes on has the name that
// the object gives, the profile has the better one.
func TestHottestIsNamedAgain(t *testing.T) {
	needs(t, "gcc", "objcopy")
	program := build(t, "stripped.c", "half", "-g")
	run(t, "objcopy", "--only-keep-debug", program, program+".debug")
	run(t, "strip", "--strip-debug", program) // symbols stay
	run(t, "objcopy", "--add-gnu-debuglink="+program+".debug", program)
	target := launch(t, "ready", program)
	hottest := map[string]bool{}
	p, err := new(profiler.Recorder).Record(t.Context(), spec(2*time.Second, target.PID), func(s session.Progress) { hottest[s.Hottest] = true })
	if err != nil {
		t.Fatal(err)
	}
	if !hottest["stripped_away"] {
		t.Errorf("meanwhile %v was hottest", hottest)
	}
	named(t, p)
}

// Local functions of Debian's libc, which is stripped, by libc6-dbg.
func TestLibcDebug(t *testing.T) {
	needs(t, "gcc")
	target := launch(t, "ready", build(t, "sorts.c", "sorts"))
	p := record(t, new(profiler.Recorder), spec(time.Second, target.PID))
	got := share(p, "msort_with_tmp")
	t.Logf("%.1f %% of the samples are in msort_with_tmp: %+v", 100*got, p.Meta.Unnamed)
	if got > 0.8 {
		return
	}
	for _, u := range p.Meta.Unnamed {
		if u.Object == "libc.so.6" && strings.Contains(u.Why, debugfile.ErrNone.Error()) && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
			t.Skip("libc6-dbg is not installed")
		}
	}
	t.Errorf("%.1f %% of the samples are in msort_with_tmp", 100*got)
}
