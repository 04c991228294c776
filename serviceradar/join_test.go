// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"encoding/json"
	"testing"
)

// Whatever agents send in chunks: what is made of it is JSON, or there is an
// error.
func FuzzJoin(f *testing.F) {
	f.Add([]byte(`[1,2]`), []byte(`{"hosts":[3],"a":1}`), true)
	f.Add([]byte(`{}`), []byte(``), false)
	f.Add([]byte(`{"hosts":null}`), []byte(`null`), true)
	f.Add([]byte(`{"hosts":[],"b":[1]}`), []byte(`[{}]`), true)
	f.Fuzz(func(t *testing.T, one, two []byte, object bool) {
		j := union{keepsObject: object}
		if j.add(one) != nil || j.add(two) != nil {
			return
		}
		message, err := j.message()
		if err != nil || !json.Valid(message) {
			t.Fatalf("%q, %q: %q: %v", one, two, message, err)
		}
		if j.nothing() && len(j.elements) > 0 {
			t.Fatal("there is something, and it is nothing")
		}
	})
}
