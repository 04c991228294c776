// SPDX-License-Identifier: Apache-2.0

package profile

import "testing"

// Only what files are found by has a place among debug files; a stranger's
// other text never becomes a path.
func TestDebugPath(t *testing.T) {
	for id, want := range map[BuildID]string{
		"a0d28b28": "a0/d28b28", "abcd": "ab/cd", "abc": "", "": "", "go:abc/def": "", "hash:0123": "", "AB12": "", "../../etc": "",
	} {
		if got, ok := id.DebugPath(); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", id, got, ok)
		}
	}
}
