// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

// Programs as Debian ships them: optimized, stripped, without frame pointers.
// For now a user stack of such code is fragments below a leaf that is right,
// so the leaves, the objects and what is anywhere in a stack are looked at.

// functions is a profile as a table: shares by function and by object.
type functions struct {
	self, total, object map[string]float64 // kernel functions end in _[k] here too
	commands            map[string]float64
	samples             int64
}

// recordFunctions records a process into a pprof file and reads that.
func recordFunctions(t *testing.T, pid int, args ...string) *functions {
	t.Helper()
	return recordFunctionsWhile(t, nil, pid, args...)
}

// recordFunctionsWhile is recordFunctions during which something happens.
func recordFunctionsWhile(t *testing.T, happens func(), pid int, args ...string) *functions {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.pb.gz")
	args = append([]string{"record", "--pid", strconv.Itoa(pid), "--frequency", often, "--output", file}, args...)
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, daemons.Path("srprof"), args...)
	c.Stdout, c.Stderr = &out, &out
	if err := runWhile(c, happens); err != nil {
		t.Fatalf("srprof %q: %v: %s", args, err, &out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := pprof.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	return tabulate(p)
}

func tabulate(p *pprof.Profile) *functions {
	f := &functions{map[string]float64{}, map[string]float64{}, map[string]float64{}, map[string]float64{}, 0}
	for _, s := range p.Sample {
		f.samples += s.Value[0]
	}
	for _, s := range p.Sample {
		share := float64(s.Value[0]) / float64(f.samples)
		f.commands[strings.Join(s.Label["comm"], "")] += share
		seen := map[string]bool{}
		for i, l := range s.Location {
			if i == 0 && l.Mapping != nil {
				f.object[path.Base(l.Mapping.File)] += share
			}
			for j, line := range l.Line {
				if i == 0 && j == 0 {
					f.self[line.Function.Name] += share
				}
				if !seen[line.Function.Name] {
					seen[line.Function.Name] = true
					f.total[line.Function.Name] += share
				}
			}
		}
	}
	return f
}

// sum adds up the shares of the names that begin with one of the prefixes.
func sum(shares map[string]float64, prefixes ...string) float64 {
	var all float64
	for name, share := range shares {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				all += share
				break
			}
		}
	}
	return all
}

// want reports a share that is too small.
func want(t *testing.T, what string, got, least float64) {
	t.Helper()
	t.Logf("%s: %.1f %%", what, 100*got)
	if got < least {
		t.Errorf("%s: %.1f %% of the samples, want %.0f or more", what, 100*got, 100*least)
	}
}

// redis-server answers a benchmark: system calls of the network, called from
// its event loop.
func TestRedis(t *testing.T) {
	need(t, "redis-server", "redis-server")
	need(t, "redis-benchmark", "redis-tools")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	server := launch(t, "Ready to accept connections", "redis-server", "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	launch(t, "", "redis-benchmark", "-h", "127.0.0.1", "-p", port, "-t", "set,get", "-n", "1000000000", "-q")
	f := recordFunctions(t, server.PID, "--duration", "4s")
	want(t, "system calls", sum(f.total, "do_syscall_64", "el0_svc"), 0.5)
	want(t, "tcp_sendmsg", f.total["tcp_sendmsg"], 0.15)
	want(t, "kernel", f.object["[kernel]"]+f.object["[kernel.kallsyms]"], 0.4)
	want(t, "redis itself", sum(f.object, "redis-"), 0.05)
	want(t, "reading queries", f.total["readQueryFromClient"], 0.002)
	want(t, "reading, running and answering commands, as leaves",
		sum(f.self, "ae", "readQuery", "process", "call", "lookup", "set", "get", "addReply", "write", "dict", "sds", "conn"), 0.01)
}

// openssl computes in libcrypto, whose assembly has no names left in it.
func TestOpenSSL(t *testing.T) {
	need(t, "openssl", "openssl")
	p := launch(t, "", "openssl", "speed", "-seconds", "60", "rsa2048")
	f := recordFunctions(t, p.PID, "--duration", "3s")
	want(t, "libcrypto", f.object["libcrypto.so.3"], 0.95)
	want(t, "named or not, below libcrypto", sum(f.self, "BN_", "bn_", "rsaz_", "RSA_", "[libcrypto.so.3]"), 0.9)
	want(t, "big numbers by name", sum(f.total, "BN_", "bn_"), 0.002)
}

// dd only copies: the kernel clears the buffer that it fills from /dev/zero.
func TestDD(t *testing.T) {
	p := launch(t, "", "dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "status=none")
	f := recordFunctions(t, p.PID, "--duration", "2s")
	want(t, "read_zero", sum(f.total, "read_zero", "read_iter_zero"), 0.9)
	want(t, "clearing memory", sum(f.self, "read_zero", "clear_user", "rep_stos", "__arch_clear_user", "iov_iter_zero"), 0.85)
	want(t, "libc's read", f.total["read"]+f.total["__read"]+f.total["__libc_read"], 0.85)
}

// A compiler: the driver only waits; what computes is its child, cc1.
func TestCompiler(t *testing.T) {
	need(t, "gcc", "gcc")
	source := filepath.Join(t.TempDir(), "large.c")
	if err := os.WriteFile(source, []byte(largeSource()), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, "ready", "sh", "-c", `echo ready; read go; exec gcc -O2 -S -o /dev/null "$1"`, "sh", source)
	// The compiler is born when sampling has begun.
	f := recordFunctionsWhile(t, after(t, 100*time.Millisecond, p.Tell), p.PID, "--children", "--duration", "60s")
	want(t, "the child cc1", f.commands["cc1"], 0.9)
	want(t, "its code", f.object["cc1"], 0.7)
}

// largeSource is work for some seconds: functions that no pass can skip.
func largeSource() string {
	var b strings.Builder
	b.WriteString("extern double sink(double);\n")
	for i := range 200 {
		fmt.Fprintf(&b, "double f%d(double *a, int n) { double s = %d; for (int i = 0; i < n; i++) { for (int j = i; j < n; j += %d) s += a[i] * a[j] - sink(s); if (s > %d) a[i] = s / (i + %d); else switch (i %% 7) { case 0: s *= 2; break; case 3: s -= a[0]; break; case 5: return sink(s); } } return s; }\n",
			i, i, i%5+1, i*3, i+1)
	}
	return b.String()
}
