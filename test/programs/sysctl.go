// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"path/filepath"
	"testing"
)

// SetSysctl changes a setting of the kernel until the test is over; its name has
// slashes.
func SetSysctl(t testing.TB, name, value string) {
	t.Helper()
	path := filepath.Join("/proc/sys", name)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, old, 0); err != nil {
			t.Errorf("%s stays %s: %v", name, value, err)
		}
	})
}
