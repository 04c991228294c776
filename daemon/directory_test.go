// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

func TestDirectoryIsOnes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenDirectory(path)
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "data_dir_in_use" || !strings.Contains(err.Error(), fmt.Sprintf("is in use by process %d (daemon.test); ", os.Getpid())) {
		t.Errorf("%v", err)
	}
	if exit("program", err, &strings.Builder{}) != ExitFailed {
		t.Errorf("%v is a fault of the configuration", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = OpenDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: others can look into it", info.Mode(), err)
	}
}

func TestDirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenDirectory(filepath.Join(file, "data"))
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "bad_data_dir" || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("%v", err)
	}
}
