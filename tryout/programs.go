// SPDX-License-Identifier: Apache-2.0

package tryout

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	profilerProgram = "serviceradar-profiler"
	agentProgram    = "serviceradar-profiler-agent"
	pollerProgram   = "serviceradar-profiler-poller"
)

// findPrograms finds the services' programs, and says what to do where there is
// one too few, or no right to use them.
func findPrograms() (map[string]string, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, session.NotPermitted("not_root", "the profiler that is to be started needs to be root", "type: sudo "+own+" up", nil)
	}
	found := map[string]string{}
	for _, name := range []string{profilerProgram, agentProgram, pollerProgram} {
		path, err := lookBeside(own, name)
		if err != nil {
			return nil, &session.Error{Code: "program_missing", Kind: err, Problem: fmt.Sprintf("%s is neither in %s nor in $PATH", name, filepath.Dir(own)),
				Remedy: "install its package, or put it beside srprof: make build makes all of them"}
		}
		found[name] = path
	}
	return found, nil
}

// lookBeside finds a program beside another one, else in $PATH.
func lookBeside(own, name string) (string, error) {
	beside := filepath.Join(filepath.Dir(own), name)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		return beside, nil
	}
	return exec.LookPath(name)
}
