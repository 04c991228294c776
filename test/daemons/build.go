// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is where the programs under test are.
var bin string

// Main runs the tests of a package, which are of what is named and need root,
// with programs built for them. It returns the exit code.
func Main(m *testing.M, of string, names ...string) int {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			fmt.Printf("the tests of %s need root\n", of)
			return 1
		}
		fmt.Printf("skipped: the tests of %s need root\n", of)
		return 0
	}
	dir, err := os.MkdirTemp("", "srprof-daemons-*")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // they run as other users, too
	}
	if err == nil {
		bin = dir
		err = Build(dir, names...)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// Path is where a program is that Main has built; without a name, where all are.
func Path(name string) string { return filepath.Join(bin, name) }

// Build builds the named programs into a directory.
func Build(dir string, names ...string) error {
	args := []string{"build", "-trimpath", "-o", dir}
	for _, name := range names {
		args = append(args, "github.com/carverauto/serviceradar-profiler/cmd/"+name)
	}
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return nil
}
