// SPDX-License-Identifier: Apache-2.0

// Package agent_test runs the real serviceradar-profiler-agent before the real
// serviceradar-profiler, and calls it as pollers of ServiceRadar do: with plain
// gRPC, and with what is known of them and nothing else.
package agent_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// bin is where the programs under test are.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			fmt.Println("the tests of the agent need root")
			return 1
		}
		fmt.Println("skipped: the tests of the agent need root")
		return 0
	}
	dir, err := os.MkdirTemp("", "srprof-agent-*")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the agent runs as another user
		fmt.Println(err)
		return 1
	}
	bin = dir
	for _, name := range []string{"serviceradar-profiler", "serviceradar-profiler-agent", "srprof"} {
		build := exec.Command("go", "build", "-o", dir, "github.com/carverauto/serviceradar-profiler/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	return m.Run()
}

// line is one of a log.
type line struct {
	Level, Component, Time, Message, Address, Error, Answer, Call, Code, Peer, Session, State string
	OnBehalfOf                                                                                string `json:"on_behalf_of"`
}

// program is a running one.
type program struct {
	address string
	command *exec.Cmd

	mu   sync.Mutex
	log  []line
	raw  []string
	gone chan struct{}
}

// hangs is how long anything may take: to see that it hangs, not how fast it is.
const hangs = 2 * time.Minute

// nobody is a user without any privilege.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}

// start starts a program with a configuration.
func start(t testing.TB, name, config string, change func(*exec.Cmd)) *program {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name+".json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir) && strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := &program{gone: make(chan struct{}), command: exec.Command(filepath.Join(bin, name), "--config", file)}
	if change != nil {
		change(p.command)
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.command.Stderr = p.command.Stdout
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, strings.Join(p.raw[max(0, len(p.raw)-60):], "\n"))
		}
	})
	p.address = p.waitFor(t, "listening").Address
	return p
}

// read reads the log to its end, then waits for the process.
func (p *program) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l line
		err := json.Unmarshal(lines.Bytes(), &l)
		p.mu.Lock()
		p.raw = append(p.raw, lines.Text())
		if err == nil {
			p.log = append(p.log, l)
		}
		p.mu.Unlock()
	}
	_ = p.command.Wait() // its state says how it ended
	close(p.gone)
}

// find is the first line of the log that is wanted.
func (p *program) find(wanted func(*line) bool) (line, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.log {
		if wanted(&l) {
			return l, true
		}
	}
	return line{}, false
}

// waitFor waits for a line of the log.
func (p *program) waitFor(t testing.TB, message string) line {
	t.Helper()
	var l line
	until(t, "the log has "+message, func() (ok bool) {
		l, ok = p.find(func(l *line) bool { return strings.HasPrefix(l.Message, message) })
		return ok
	})
	return l
}

// until waits for what must come.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it never comes: %s", what)
}

func (p *program) kill() {
	_ = p.command.Process.Kill() // it may be gone
	<-p.gone
}

func (p *program) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// memory is a figure of /proc/PID/status, in bytes.
func (p *program) memory(t testing.TB, key string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in %s", key, b)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// certificates are fresh ones, that each user may read.
func certificates(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, dir, filepath.Dir(dir)) {
		mode := os.FileMode(0o644)
		if info, err := os.Stat(f); err == nil && info.IsDir() {
			mode = 0o755
		}
		if err := os.Chmod(f, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func security(certs, name string) string {
	return fmt.Sprintf(`{"cert_dir": %q, "tls": {"cert_file": "%s.pem", "key_file": "%s-key.pem", "ca_file": "root.pem"}}`, certs, name, name)
}

// often is a rate that tests do not reach.
const often = `"rate": {"per_second": 100000, "burst": 100000}`

// station is a profiler and its agent.
type station struct {
	certs           string
	profiler, agent *program
}

// profilerAt starts a profiler; more are further keys.
func profilerAt(t testing.TB, certs, address, more string) *program {
	t.Helper()
	return start(t, "serviceradar-profiler", fmt.Sprintf(`{"listen_addr": %q, "security": %s, %s "access": {"roles": {"agent.serviceradar": ["admin"]}, %s}}`,
		address, security(certs, "profiler"), more, often), nil)
}

// agentBefore starts an agent; more are further keys, of access too.
func agentBefore(t testing.TB, certs, profiler, more, access string) *program {
	t.Helper()
	return start(t, "serviceradar-profiler-agent", fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "agent_id": "web1", "profiler_address": %q, "security": %s, %s
		"access": {"roles": {"admin.serviceradar": ["admin"], "poller.serviceradar": ["poller"]}, "permissions": {"poller": ["profiling:*"]}, %s %s}}`,
		profiler, security(certs, "agent"), more, access, often), func(c *exec.Cmd) { c.SysProcAttr = nobody })
}

func newStation(t testing.TB, moreOfAgent, access string) *station {
	t.Helper()
	h := &station{certs: certificates(t)}
	h.profiler = profilerAt(t, h.certs, "127.0.0.1:0", "")
	h.agent = agentBefore(t, h.certs, h.profiler.address, moreOfAgent, access)
	h.agent.waitFor(t, "the profiler is")
	return h
}

// connect is plain gRPC with a certificate.
func connect(t testing.TB, certs, identity, address string) *grpc.ClientConn {
	t.Helper()
	creds, err := auth.Identity(certs, identity).ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// busy is a process that works all the time, hot_a most of it.
func busy(t testing.TB) *programs.Process {
	t.Helper()
	return programs.Start(t, "split.c", programs.Options{})
}

// object reads what must be one JSON object and nothing else.
func object(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(data, &o); err != nil || o == nil || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		t.Fatalf("no JSON object: %v: %.200s", err, data)
	}
	return o
}

// hottest is the function with the most samples of its own in folded text.
func hottest(t testing.TB, folded string) string {
	t.Helper()
	self := map[string]int{}
	most := ""
	for l := range strings.Lines(folded) {
		i := strings.LastIndexByte(l, ' ')
		if i < 0 {
			t.Fatalf("no folded text: %q", l)
		}
		stack := l[:i]
		n, err := strconv.Atoi(strings.TrimSpace(l[i:]))
		if err != nil {
			t.Fatalf("no folded text: %q", l)
		}
		leaf := stack[strings.LastIndexByte(stack, ';')+1:]
		if self[leaf] += n; self[leaf] > self[most] {
			most = leaf
		}
	}
	return most
}
