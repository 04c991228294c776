// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/store/queue"
)

// childVariable names the file of a childConfig: then the program is a poller,
// and no test. So it can be killed at any moment.
const childVariable = "SRPROF_TEST_POLLER"

type childConfig struct {
	Certs    string `json:"certs"`
	Dir      string `json:"dir"`
	MaxItems int    `json:"max_items"`
	checks.Config
}

func child(file string) {
	var c childConfig
	err := config.Read(file, &c)
	if err == nil {
		err = runChild(&c)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func runChild(c *childConfig) error {
	poller, _, err := newPoller(&pollerOptions{config: c.Config, certs: c.Certs, dir: c.Dir, limits: queue.Limits{MaxBytes: 64 << 20, MaxItems: c.MaxItems}})
	if err != nil {
		return err
	}
	poller.Run(context.Background())
	return nil
}

// life is a poller in a process of its own.
type life struct {
	command *exec.Cmd
	ended   chan error
}

// begin starts one. It is killed when the test ends, if not before.
func begin(t *testing.T, c *childConfig) *life {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &life{command: exec.Command(self), ended: make(chan error, 1)}
	l.command.Env = append(os.Environ(), childVariable+"="+write(t, t.TempDir(), "child.json", string(b)))
	l.command.Stderr = os.Stderr
	if err := l.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { l.ended <- l.command.Wait() }()
	t.Cleanup(l.kill)
	return l
}

// kill ends it at once, by SIGKILL.
func (l *life) kill() {
	_ = l.command.Process.Kill() // it may have ended
	l.ended <- <-l.ended
}
