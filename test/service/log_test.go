// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// A log that cannot be written is no reason to serve nobody: on a full disk,
// with a reader that does not read, and with one that has gone. Nor does it
// keep the service from ending.
func TestLogThatCannotBeWritten(t *testing.T) {
	for _, c := range []struct {
		name   string
		output func(t *testing.T) *os.File
		lost   bool // lines are lost, and not only late
	}{
		{"full disk", func(t *testing.T) *os.File { return opened(os.OpenFile("/dev/full", os.O_WRONLY, 0))(t) }, true},
		{"reader that sleeps", sleepingReader, false},
		{"reader that has gone", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			r.Close()
			return opened(w, err)(t)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &service{dir: t.TempDir(), gone: make(chan struct{})}
			if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{}); err != nil {
				t.Fatal(err)
			}
			s.command = exec.Command(daemons.Path("serviceradar-profiler"), "--config=")
			s.command.Stdout = c.output(t)
			s.command.Env = append(os.Environ(), "SRPROF_PROFILER_LISTEN_ADDR=127.0.0.2:0", "SRPROF_PROFILER_METRICS_LISTEN_ADDR=127.0.0.3:0",
				"SRPROF_PROFILER_SECURITY_CERT_DIR="+s.dir, `SRPROF_PROFILER_SECURITY_TLS={"cert_file": "profiler.pem", "key_file": "profiler-key.pem", "ca_file": "root.pem"}`,
				`SRPROF_PROFILER_ACCESS_ROLES={"admin.serviceradar": ["admin"]}`, "SRPROF_PROFILER_PROFILER_GRACE_PERIOD_SECONDS=0")
			if err := s.command.Start(); err != nil {
				t.Fatal(err)
			}
			go func() {
				_ = s.command.Wait() // its state says how it ended
				close(s.gone)
			}()
			t.Cleanup(func() {
				_ = s.command.Process.Kill() // it has ended, if all is well
				<-s.gone
			})
			s.address = listens(t, s, "127.0.0.2")
			// The certificate is for 127.0.0.1; its names serve as well.
			own := auth.Identity(s.dir, "admin")
			own.ServerName = "localhost"
			r := s.runnerOf(t, own)
			p := target(t)
			started, err := r.Start(t.Context(), session.Spec{PIDs: []int{p.PID}, Duration: time.Second, Frequency: 499})
			if err != nil {
				t.Fatal(err)
			}
			if last := final(t, r, started.ID); last.State != session.StateSucceeded {
				t.Errorf("%+v", last)
			}
			text := daemons.Get(t, http.DefaultClient, "http://"+listens(t, s, "127.0.0.3")+"/metrics")
			if got := !strings.Contains(text, "\nsrprof_log_lines_lost_total 0\n"); got != c.lost {
				t.Errorf("lines are lost: %v", got)
			}
			s.signal(t, syscall.SIGTERM)
			if state := s.ended(t); state.ExitCode() != 0 {
				t.Errorf("it ended with %v", state)
			}
		})
	}
}

// Each line of the log has the shape of ServiceRadar's, and those of a session
// lead to whoever asked for it.
func TestLinesOfLog(t *testing.T) {
	s := start(t, `"grace_period_seconds": 0`, measured("SRPROF_PROFILER_LOGGING_LEVEL=debug"))
	r := s.runner(t, "admin")
	p, idle := target(t), programs.Start(t, "sleeper.c", programs.Options{})
	for request, pid := range map[string]int{"good": p.PID, "idle": idle.PID, "none": 1 << 30} {
		started, err := r.Start(t.Context(), session.Spec{PIDs: []int{pid}, Duration: 300 * time.Millisecond, Frequency: 499, RequestID: request})
		if (err == nil) != (request != "none") {
			t.Fatal(request, err)
		}
		if err == nil {
			final(t, r, started.ID)
		}
	}
	s.signal(t, syscall.SIGHUP)
	s.waitFor(t, "the configuration was read again")
	s.signal(t, syscall.SIGTERM)
	s.ended(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := map[string]int{} // by request and message
	for _, raw := range s.raw {
		var l map[string]any
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		at, _ := l["time"].(string)
		if _, err := time.Parse(time.RFC3339, at); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		level, _ := l["level"].(string)
		if !slices.Contains([]string{"debug", "info", "warn", "error"}, level) || l["component"] != "profiler" || l["message"] == "" {
			t.Error(raw)
		}
		if request, ok := l["request_id"]; ok {
			lines[fmt.Sprint(request, " ", l["message"], " ", l["answer"])]++
		}
	}
	want := map[string]int{
		"good session started <nil>": 1, "good session ended <nil>": 1, "good access allowed": 1, "good access ended": 1,
		"idle session started <nil>": 1, "idle session ended <nil>": 1, "idle access allowed": 1, "idle access ended": 1,
		"none access allowed": 1, // there is no such process, which is not for the gate to say
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func opened(f *os.File, err error) func(t *testing.T) *os.File {
	return func(t *testing.T) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
}

// sleepingReader is a pipe that is full.
func sleepingReader(t *testing.T) *os.File {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := syscall.Write(fds[1], make([]byte, 4096)); errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fds[1], false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fds[0]) })
	return opened(os.NewFile(uintptr(fds[1]), "pipe"), nil)(t)
}

// listens waits until the service listens at an address and finds the port.
func listens(t *testing.T, s *service, ip string) string {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if port := portOf(t, s.command.Process.Pid, ip); port > 0 {
			return fmt.Sprintf("%s:%d", ip, port)
		}
	}
	t.Fatalf("nothing listens at %s", ip)
	return ""
}

// portOf looks into the kernel's table for a listening socket of a process:
// proc(5), /proc/net/tcp. 0 is none.
func portOf(t *testing.T, pid int, ip string) int {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		t.Fatal(err)
	}
	sockets := map[string]bool{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil { // it may be closed by now
			sockets[to] = true
		}
	}
	raw := make([]byte, 4)
	binary.NativeEndian.PutUint32(raw, binary.BigEndian.Uint32(net.ParseIP(ip).To4()))
	address := strings.ToUpper(hex.EncodeToString(raw))
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // sl local_address rem_address st … inode
		if len(f) < 10 || f[3] != "0A" || !strings.HasPrefix(f[1], address+":") || !sockets["socket:["+f[9]+"]"] {
			continue
		}
		port, err := strconv.ParseUint(f[1][len(address)+1:], 16, 16)
		if err != nil {
			t.Fatal(err)
		}
		return int(port)
	}
	return 0
}
