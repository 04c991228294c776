// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// holdings are what the service has, when no session runs.
type holdings struct {
	sessions    int   // so far
	memory      int64 // bytes, of its own: RssAnon of proc(5)
	threads     int
	goroutines  int
	events      int   // perf events
	bpf         int   // programs, maps and links, by file descriptor
	sockets     int   //
	spooled     int   // files without a name
	spooledSize int64 // bytes
	others      int   // file descriptors
}

func (h *holdings) String() string {
	return fmt.Sprintf("| %6d | %5.1f MB | %3d | %3d | %d | %3d | %3d | %3d, %4d kB | %3d |",
		h.sessions, float64(h.memory)/1e6, h.goroutines, h.threads, h.events, h.bpf, h.sockets, h.spooled, h.spooledSize/1000, h.others)
}

// goroutines are how many there are, by the service's own metrics.
func (s *service) goroutines() (int, error) {
	answer, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, errors.New("the metrics do not say how many goroutines there are")
}

// look is what the service has now.
func (s *service) look() (*holdings, error) {
	dir := fmt.Sprintf("/proc/%d/", s.command.Process.Pid)
	h := &holdings{}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return nil, err
	}
	if h.goroutines, err = s.goroutines(); err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64) // the lines that count have numbers
		switch f[0] {
		case "RssAnon:":
			h.memory = n << 10
		case "Threads:":
			h.threads = int(n)
		}
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		path := filepath.Join(dir, "fd", fd.Name())
		to, err := os.Readlink(path)
		if err != nil {
			continue // closed meanwhile
		}
		switch {
		case to == "anon_inode:[perf_event]":
			h.events++
		case strings.HasPrefix(to, "anon_inode:bpf"):
			h.bpf++
		case strings.HasPrefix(to, "socket:"):
			h.sockets++
		case strings.HasSuffix(to, " (deleted)"):
			h.spooled++
			if info, err := os.Stat(path); err == nil {
				h.spooledSize += info.Size()
			}
		default:
			h.others++
		}
	}
	return h, nil
}

// rest waits until the service has nothing to do and has put its house in
// order: the spare for the next session is there, memory was given back.
func (s *service) rest(t *testing.T, sessions int) *holdings {
	t.Helper()
	there := s.dial(t)
	defer there.Close()
	deadline := time.Now().Add(hangs)
	for {
		busy, err := there.List(t.Context(), session.Filter{States: []session.State{session.StatePending, session.StateRunning}})
		if err != nil {
			t.Fatal(err)
		}
		if len(busy) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sessions go on: %+v", busy)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(4 * time.Second) // it waits for 3 s for another session before it gives memory back
	var before, now *holdings
	for time.Now().Before(deadline) {
		var err error
		if now, err = s.look(); err != nil {
			t.Fatal(err)
		}
		if before != nil && now.events == 0 && now.bpf == before.bpf && now.sockets == before.sockets && now.goroutines == before.goroutines && now.others == before.others {
			break
		}
		before = now
		time.Sleep(500 * time.Millisecond)
	}
	now.sessions = sessions
	return now
}

// grown says what became more from the first look to the last one.
func grown(seen []*holdings) (wrong []string) {
	first, last := seen[0], seen[len(seen)-1]
	for _, of := range []struct {
		what        string
		first, last int
		allowed     int
	}{
		{"kB of memory", int(first.memory >> 10), int(last.memory >> 10), 6 << 10},
		{"goroutines", first.goroutines, last.goroutines, 0},
		{"threads", first.threads, last.threads, 10},
		{"perf events", 0, last.events, 0},
		{"BPF programs and maps", first.bpf, last.bpf, 0},
		{"sockets", first.sockets, last.sockets, 0},
		{"other file descriptors", first.others, last.others, 0},
		{"spooled files", kept * 2, last.spooled, 0},
	} {
		if of.last > of.first+of.allowed {
			wrong = append(wrong, fmt.Sprintf("%d %s, %d after %d sessions more", of.first, of.what, of.last, last.sessions-first.sessions))
		}
	}
	return wrong
}
