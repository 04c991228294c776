// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/store/storetest"
)

var update = flag.Bool("update", false, "write testdata anew, where a version of the schema is new")

// columns are the JSON of a record.
type columns struct {
	Asked   json.RawMessage   `json:"asked"`
	Session json.RawMessage   `json:"session"`
	Runs    []json.RawMessage `json:"runs"`
}

func columnsOf(t *testing.T, rec *store.Record) columns {
	t.Helper()
	e, err := encodeRecord(rec)
	if err != nil {
		t.Fatal(err)
	}
	c := columns{Asked: json.RawMessage(e.asked), Session: json.RawMessage(e.session)}
	for _, r := range e.runs {
		c.Runs = append(c.Runs, json.RawMessage(r.run))
	}
	return c
}

// What a version of the schema wrote is still read, field by field: who renames
// a field of a session, and with it its JSON, is to rewrite what was kept, in a
// migration. Each version has a file, of a record with all fields.
func TestOldColumns(t *testing.T) {
	newest := filepath.Join("testdata", fmt.Sprintf("v%d.json", len(migrations)))
	if *update {
		b, err := json.MarshalIndent(columnsOf(t, storetest.Filled(1)), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(newest, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	var old columns
	if err := json.Unmarshal(b, &old); err != nil {
		t.Fatal(err)
	}
	rec := &store.Record{Runs: make([]store.Run, len(old.Runs))}
	if err := decodeSession(old.Asked, old.Session, rec); err != nil {
		t.Fatal(err)
	}
	for i := range old.Runs {
		if err := json.Unmarshal(old.Runs[i], &rec.Runs[i]); err != nil {
			t.Fatal(err)
		}
	}
	now := columnsOf(t, rec)
	within(t, "asked", old.Asked, now.Asked)
	within(t, "session", old.Session, now.Session)
	for i := range old.Runs {
		within(t, "run", old.Runs[i], now.Runs[i])
	}
}

// within checks that all of the old JSON is in the new one.
func within(t *testing.T, what string, old, now json.RawMessage) {
	t.Helper()
	var a, b any
	for into, from := range map[*any]json.RawMessage{&a: old, &b: now} {
		d := json.NewDecoder(bytes.NewReader(from))
		d.UseNumber()
		if err := d.Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	compare(t, what, a, b)
}

func compare(t *testing.T, what string, a, b any) {
	t.Helper()
	switch a := a.(type) {
	case map[string]any:
		b, _ := b.(map[string]any)
		for key, value := range a {
			compare(t, what+"."+key, value, b[key])
		}
	case []any:
		b, _ := b.([]any)
		for i, value := range a {
			if i >= len(b) {
				t.Errorf("%s[%d] is not read any more", what, i)
				continue
			}
			compare(t, fmt.Sprintf("%s[%d]", what, i), value, b[i])
		}
	default:
		if a != b {
			t.Errorf("%s was %v and is read as %v", what, a, b)
		}
	}
}
