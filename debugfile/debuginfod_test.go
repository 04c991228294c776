// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The real debuginfod, of elfutils, has what it finds in a folder.
func TestRealDebuginfod(t *testing.T) {
	if _, err := exec.LookPath("debuginfod"); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	f := newFixture(t)
	f.put("program.debug", "files/program.debug")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	c := exec.Command("debuginfod", "--database=:memory:", "--port="+port, "--fdcache-mbs=1", "-F", filepath.Join(f.root, "files"))
	c.Env = append(os.Environ(), "DEBUGINFOD_URLS=") // it would ask others
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	// It answers before it has looked at all files.
	options := asking(t, "http://127.0.0.1:"+port)
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		d, err := f.finder(options).Find(f.object())
		if err == nil {
			defer d.File.Close()
			if d.File.Section(".debug_info") == nil || d.File.BuildID() != f.object().File.BuildID() {
				t.Errorf("build ID %s", d.File.BuildID())
			}
			return
		}
		if time.Since(begin) > time.Minute {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, text)
		}
	}
}
