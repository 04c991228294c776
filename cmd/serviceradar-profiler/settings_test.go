// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/carverauto/serviceradar-profiler/daemon"
)

// What is shipped as an example says what the defaults are, and where the
// certificates are.
func TestShippedConfiguration(t *testing.T) {
	got, err := load("../../deploy/profiler.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got, cmpopts.IgnoreUnexported(settings{})); diff != "" {
		t.Error(diff)
	}
}

// What config example writes is read back as the same.
func TestExampleIsRead(t *testing.T) {
	var out bytes.Buffer
	if code := program.Run(t.Context(), []string{"config", "example"}, daemon.Streams{Out: &out, Err: os.Stderr}); code != daemon.ExitOK {
		t.Fatalf("exit code %d", code)
	}
	file := filepath.Join(t.TempDir(), "profiler.json")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got, cmpopts.IgnoreUnexported(settings{})); diff != "" {
		t.Error(diff)
	}
}

// Another program listens there already: that is no fault of the configuration.
func TestCannotListen(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file := filepath.Join(t.TempDir(), "profiler.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"listen_addr": %q, "security": {"mode": "none"}}`, other.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	code := program.Run(t.Context(), []string{"--config", file}, daemon.Streams{Out: &out, Err: &stderr})
	want := fmt.Sprintf("serviceradar-profiler: cannot listen at %s (bind: address already in use); choose another listen_addr, or end what listens there [cannot_listen]\n", other.Addr())
	if code != daemon.ExitFailed || stderr.String() != want || out.Len() > 0 {
		t.Errorf("exit code %d\n%s%s", code, &out, &stderr)
	}
}
