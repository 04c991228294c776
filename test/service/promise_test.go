// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// secrets are what must be found nowhere.
type secrets struct {
	argument, environment string
	word                  string // 8 bytes, of which the stack is full
}

// in names what is found in b. A single word of the stack counts where words
// are asked for. Else it is a piece of the stack: where a walk goes astray, it
// takes a word for an address, and finds out later that it is none.
func (s *secrets) in(b []byte, words bool) string {
	stack := strings.Repeat(s.word, 4)
	if words {
		stack = s.word
	}
	for what, text := range map[string]string{"its argument": s.argument, "its environment": s.environment, "its stack": stack} {
		if bytes.Contains(b, []byte(text)) {
			return what
		}
	}
	return ""
}

// holder starts the process with the secrets.
func holder(t *testing.T) (*programs.Process, *secrets) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
		t.Skip("needs gcc")
	}
	path := filepath.Join(t.TempDir(), "canary")
	// Without unwind tables for its own code, so that frame pointers are followed.
	out, err := exec.Command("gcc", "-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-o", path, "testdata/canary.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	random := func() string { return rand.Text() }
	s := &secrets{argument: "argument-" + random(), environment: "environment-" + random(), word: random()[:8]}
	c := exec.Command(path, s.argument)
	c.Env = append(os.Environ(), "CANARY="+s.environment)
	c.Stdin = nil
	p, err := launchSaying(c, s.word+"\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p, s
}

// launchSaying starts a program that wants to be told something before it is
// ready.
func launchSaying(c *exec.Cmd, what string) (*programs.Process, error) {
	p, err := programs.Launch(c, "")
	if err != nil {
		return nil, err
	}
	return p, p.Say(what)
}

// No contents of the stack, argument or variable of the environment is in any
// format, description, line of the log, file, map of the kernel, or in the
// memory of the service.
func TestNothingIsKept(t *testing.T) {
	s := start(t, `"spool_dir": "/var/tmp"`, nil)
	p, secret := holder(t)
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	started, err := c.Start(t.Context(), session.Spec{PIDs: []int{p.PID}, Children: true, Duration: 60 * time.Second, Frequency: 999})
	if err != nil {
		t.Fatal(err)
	}
	s.sampled(t, c, started.ID, 200)
	for range 2 {
		s.searchMaps(t, secret, true)
	}
	s.searchOutputs(t, c, started.ID, secret, "while it runs")
	s.searchProcesses(t, c, p.PID, secret)
	if _, err := c.Cancel(t.Context(), started.ID); err != nil {
		t.Fatal(err)
	}
	s.searchOutputs(t, c, started.ID, secret, "at the end")
	s.searchFiles(t, secret)
	if found, where := memoryHas(t, pidOf(s), secret); found != "" {
		t.Errorf("the memory of the service has %s, in %s", found, where)
	}
	if found, _ := memoryHas(t, strconv.Itoa(p.PID), secret); found == "" {
		t.Error("that of the target has none: the search finds nothing")
	}
	s.searchMaps(t, secret, false)
	// What cannot be done with it is told without them, too.
	for _, bad := range []session.Spec{{PIDs: []int{p.PID}, Duration: time.Second}, {PIDs: []int{p.PID, 1 << 30}, Duration: time.Second, Frequency: 99}} {
		if _, err := c.Start(t.Context(), bad); err == nil || secret.in([]byte(err.Error()), true) != "" {
			t.Errorf("an error: %v", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := secret.in([]byte(strings.Join(s.raw, "\n")), true); found != "" {
		t.Errorf("the log has %s", found)
	}
}

// searchProcesses looks into what is told of processes to those who choose one.
func (s *service) searchProcesses(t *testing.T, c *remote.Client, pid int, secret *secrets) {
	t.Helper()
	all, err := c.Processes(t.Context(), "", session.Selector{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(p session.Process) bool { return p.PID == pid }) {
		t.Errorf("the target is not among %d processes", len(all))
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if found := secret.in(b, true); found != "" {
		t.Errorf("the list of processes has %s", found)
	}
}

// sampled waits until a session has some samples.
func (s *service) sampled(t *testing.T, c *remote.Client, id session.ID, least uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	for now, err := range c.Watch(ctx, id) {
		if err != nil {
			t.Fatal(err)
		}
		if now.Progress.Samples >= least {
			return
		}
		if now.State.Final() {
			t.Fatalf("it ended with %+v", now)
		}
	}
}

// searchOutputs looks into each format, and into what is told of the session.
func (s *service) searchOutputs(t *testing.T, c *remote.Client, id session.ID, secret *secrets, when string) {
	t.Helper()
	for _, f := range encoding.Formats() {
		content, err := c.Fetch(t.Context(), id, session.Want{Format: f.Name})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(content.Body)
		content.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == session.FormatPprof {
			b = s.decoded(t, b, secret)
		}
		if !bytes.Contains(b, []byte("canary")) {
			t.Errorf("%s, %s: the target itself is not in there", f.Name, when)
		}
		if found := secret.in(b, true); found != "" {
			t.Errorf("%s, %s, has %s", f.Name, when, found)
		}
	}
	known, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(known)
	if err != nil || secret.in(b, true) != "" {
		t.Errorf("what is told of the session: %v, %s", err, b)
	}
	t.Logf("%s: %d samples", when, known.Progress.Samples)
}

// decoded unpacks pprof, and looks at each address: a word of the stack that
// was taken for one would be there as a number.
func (s *service) decoded(t *testing.T, b []byte, secret *secrets) []byte {
	t.Helper()
	p, err := pprof.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	word := binary.LittleEndian.Uint64([]byte(secret.word))
	for i := range p.Addresses {
		if a := uint64(p.Addresses[i].Addr); a == word || a == word-1 || a == word+1 {
			t.Errorf("a word of the stack is an address of the profile: %x", a)
		}
	}
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// searchFiles looks into all files that the service has open, those without a
// name above all.
func (s *service) searchFiles(t *testing.T, secret *secrets) {
	t.Helper()
	fds, err := filepath.Glob("/proc/" + pidOf(s) + "/fd/*")
	if err != nil || len(fds) == 0 {
		t.Fatalf("%v, %v", fds, err)
	}
	spooled := 0
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasSuffix(to, "(deleted)") {
			continue
		}
		b, err := os.ReadFile(fd)
		if err != nil {
			t.Fatal(err)
		}
		spooled++
		if zr, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			if b, err = io.ReadAll(zr); err != nil {
				t.Fatal(err)
			}
		}
		if found := secret.in(b, true); found != "" {
			t.Errorf("%s has %s", to, found)
		}
	}
	if spooled == 0 {
		t.Error("the profile is kept in no file, so none was looked into")
	}
}

// memoryHas looks into all that a process has written to its memory.
func memoryHas(t *testing.T, pid string, secret *secrets) (found, where string) {
	t.Helper()
	maps, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/" + pid + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	read := 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, from) // some cannot be read: rings of the kernel
		read += n
		if found := secret.in(b[:n], false); found != "" {
			return found, line
		}
	}
	if read < 64<<10 {
		t.Errorf("only %d bytes of memory could be read", read)
	}
	return "", ""
}

var hexByte = regexp.MustCompile(`0x[0-9a-f]{2}`)

// scratch is where the walk keeps what it is reading: a window of the stack of
// the last sample on each CPU, while the session runs.
const scratch = "walks"

// searchMaps dumps each map that the service has in the kernel.
func (s *service) searchMaps(t *testing.T, secret *secrets, running bool) {
	t.Helper()
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		bpftool = "/usr/sbin/bpftool"
	}
	infos, err := filepath.Glob("/proc/" + pidOf(s) + "/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, info := range infos {
		b, err := os.ReadFile(info)
		if err != nil {
			continue // closed meanwhile
		}
		id := field(string(b), "map_id:")
		if id == "" || seen[id] || field(string(b), "map_type:") == "3" { // program arrays: numbers of programs
			continue
		}
		seen[id] = true
		name := mapName(t, bpftool, id)
		out, err := exec.Command(bpftool, "-j", "map", "dump", "id", id).Output()
		if err != nil {
			t.Logf("map %s (%s): %v", id, name, err)
			continue // closed meanwhile, or a ring
		}
		var content []byte
		for _, h := range hexByte.FindAll(out, -1) {
			v, err := strconv.ParseUint(string(h[2:]), 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			content = append(content, byte(v))
		}
		if found := secret.in(content, false); found != "" && !(running && name == scratch) {
			t.Errorf("map %s has %s", name, found)
		}
	}
	t.Logf("%d maps, running %v", len(seen), running)
	if running && len(seen) < 8 {
		t.Errorf("only %d maps were found", len(seen))
	}
}

func mapName(t *testing.T, bpftool, id string) string {
	t.Helper()
	out, err := exec.Command(bpftool, "-j", "map", "show", "id", id).Output()
	if err != nil {
		return ""
	}
	var m struct{ Name string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m.Name
}

// field is a value of an fdinfo.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
