// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	CertFile string `json:"cert_file"`
}

type outer struct {
	ListenAddr string            `json:"listen_addr"`
	Debug      bool              `json:"debug"`
	Count      int               `json:"max_concurrent_sessions"`
	Small      uint8             `json:"small"`
	Share      float64           `json:"share"`
	Grace      time.Duration     `json:"grace"`
	Units      []string          `json:"units"`
	Headers    map[string]string `json:"headers"`
	Security   struct {
		Mode string `json:"mode"`
		TLS  inner  `json:"tls"`
	} `json:"security"`
	Other *inner `json:"other"`
	Own   int    // has no key
}

func TestGood(t *testing.T) {
	got := outer{ListenAddr: ":1", Count: 10}
	err := Parse("x", []byte(`{"debug": true, "small": 255, "share": 1e-1, "grace": "1m30s", "units": ["a", "b"],
		"headers": {"a": "b"}, "security": {"tls": {"cert_file": "c\u0061"}}, "other": {"cert_file": "o"}}`), &got)
	want := outer{ListenAddr: ":1", Debug: true, Count: 10, Small: 255, Share: 0.1, Grace: 90 * time.Second, Units: []string{"a", "b"},
		Headers: map[string]string{"a": "b"}, Other: &inner{"o"}}
	want.Security.TLS.CertFile = "ca"
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestBad(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown", "{\n  \"listen_adr\": \":1\"\n}", `x:2:3: there is no key "listen_adr"; did you mean "listen_addr"?`},
		{"unknown, in an object", `{"security": {"modes": "mtls"}}`, `x:1:15: there is no key "security.modes"; did you mean "mode"?`},
		{"a part of one", `{"concurrent": 1}`, `x:1:2: there is no key "concurrent"; did you mean "max_concurrent_sessions"?`},
		{"case", `{"Listen_Addr": ":1"}`, `x:1:2: there is no key "Listen_Addr"; did you mean "listen_addr"?`},
		{"misplaced", `{"security": {"cert_file": "c"}}`, `x:1:15: there is no key "security.cert_file"; "cert_file" belongs into "security.tls"`},
		{"misplaced, outermost", `{"security": {"listen_addr": ":1"}}`, `"listen_addr" belongs into the outermost object`},
		{"nothing like it", `{"security": {"xyzzy": 1}}`, `there is no key "security.xyzzy"; known in "security": mode, tls`},
		{"a field without a key", `{"Own": 1}`, `there is no key "Own"`},
		{"twice", `{"debug": true, "debug": false}`, `x:1:17: "debug" is there twice; one of them must go`},
		{"twice, in an object", `{"security": {"mode": "a", "mode": "a"}}`, `"security.mode" is there twice`},
		{"twice, spelled in two ways", `{"debug": true, "d\u0065bug": false}`, `"debug" is there twice`},
		{"text for a number", `{"max_concurrent_sessions": "10"}`, `x:1:29: "max_concurrent_sessions" is the text "10"; it must be a whole number from -9223372036854775808 to 9223372036854775807`},
		{"fraction", `{"max_concurrent_sessions": 1.5}`, `is the number 1.5; it must be a whole number`},
		{"too large", `{"small": 256}`, `"small" is the number 256; it must be a whole number from 0 to 255`},
		{"far too large", `{"max_concurrent_sessions": 1e400}`, `it must be a whole number`},
		{"infinite", `{"share": 1e400}`, `it must be a number`},
		{"number for text", `{"listen_addr": 50084}`, `"listen_addr" is the number 50084; it must be text: "…"`},
		{"text for yes or no", `{"debug": "true"}`, `it must be true or false`},
		{"number for a duration", `{"grace": 10}`, `"grace" is the number 10; it must be a duration, as "10s"`},
		{"no duration", `{"grace": "10"}`, `"grace" is the text "10"; it must be a duration`},
		{"negative duration", `{"grace": "-1s"}`, `it must be a duration`},
		{"null", `{"debug": null}`, `"debug" is null; leave it out to have the default`},
		{"list for an object", `{"security": []}`, `"security" is a list; it must be an object: { … }`},
		{"object for a list", `{"units": {}}`, `"units" is an object; it must be a list: [ … ]`},
		{"in a list", `{"units": ["a", 1]}`, `x:1:17: "units[1]" is the number 1; it must be text`},
		{"in a map", `{"headers": {"a": 1}}`, `"headers.a" is the number 1`},
		{"in a pointer", `{"other": {"cert": "a"}}`, `"other.cert"`},
		{"comment", "{\n // no\n}", `x:2:2: this is not JSON: invalid character '/' looking for beginning of object key string; JSON has no comments`},
		{"comma", `{"debug": true,}`, `x:1:16: this is not JSON: invalid character '}' looking for beginning of object key string; there is a comma too many before it`},
		{"no comma", "{\"debug\": true\n\"small\": 1}", `x:2:1: this is not JSON: invalid character '"' after object key:value pair; a comma may be missing before it`},
		{"cut", `{"debug": true`, `x:1:15: this is not JSON: unexpected end of JSON input; a bracket may be missing at the end`},
		{"more", `{} {}`, `x:1:4: this is not JSON: invalid character '{' after top-level value; the configuration is one object`},
		{"no object", `[]`, `x:1:1: there is a list where the configuration should be; it is one object: { … }`},
		{"empty", " \n", `x: the file is empty; the least that it can hold is {}`},
		{"TOML", "[server]\nport = 50084", `x:1:2: this is not JSON: invalid character 's' looking for beginning of value`},
		{"mark", "\xef\xbb\xbf{}", `x: the file begins with a byte order mark`},
		{"Latin-1", "{\"listen_addr\": \"\xe4\"}", `x: the file is not UTF-8`},
		{"deep", strings.Repeat(`{"security":`, 40) + "1" + strings.Repeat("}", 40), `more than 32 objects or lists within one another`},
		{"large", "{" + strings.Repeat(" ", maxSize) + "}", `x: the file is larger than 16 MiB`},
		{"several", `{"listen_adr": 1, "debug": 2}`, "did you mean \"listen_addr\"?\nx:1:28: \"debug\" is the number 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Parse("x", []byte(c.text), new(outer))
			var e *Error
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &e) || e.Code != "config_invalid" {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	err := Parse("x", []byte(`{"units": [`+strings.Repeat("1,", 1000)+"1]}"), new(outer))
	if n := strings.Count(err.Error(), "\n") + 1; n != maxErrors {
		t.Errorf("%d errors", n)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "profiler.json")
	err := Read(path, new(outer))
	if want := path + ": the configuration cannot be read (no such file or directory); write one, or name another with --config"; !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := Read(dir, new(outer)); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(`{"small": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var v outer
	if err := Read(path, &v); err != nil || v.Small != 7 {
		t.Errorf("%v: %v", v, err)
	}
}

func TestKeys(t *testing.T) {
	want := []string{"debug", "grace", "headers", "listen_addr", "max_concurrent_sessions", "other", "other.cert_file",
		"security", "security.mode", "security.tls", "security.tls.cert_file", "share", "small", "units"}
	if got := Keys(new(outer)); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Whatever a file holds, it is read or refused with a place within it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `{"debug": true}`, `{"security": {"tls": {"cert_file": "x"}}, "units": ["a"], "grace": "1s"}`,
		`{"a": {"a": {"a": [1, [2], null, -1e9]}}}`, "{\n\"debug\": tru", `{"small": 300, "share": 1e999}`, `{"d\u0065bug": 1, "debug": 2}`, "[[[[", `"`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v outer
		err := Parse("x", b, &v)
		if err == nil {
			return
		}
		for _, err := range split(err) {
			var e *Error
			if !errors.As(err, &e) || e.Problem == "" || e.Line > strings.Count(string(b), "\n")+1 || e.Column > len(b)+1 || e.Line > 0 && e.Column < 1 {
				t.Fatalf("%#v", err)
			}
		}
	})
}

func split(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return []error{err}
}

// A Duration is also a number of nanoseconds; a time.Duration is not.
func TestDuration(t *testing.T) {
	type file struct {
		Every Duration  `json:"every"`
		Maybe *Duration `json:"maybe"`
	}
	for text, want := range map[string]Duration{
		`{"every": "1m30s"}`: Duration(90 * time.Second), `{"every": 30000000000}`: Duration(30 * time.Second), `{"every": 1.5e9}`: Duration(1500 * time.Millisecond), `{}`: 7,
	} {
		got := file{Every: 7}
		if err := Parse("x", []byte(text), &got); err != nil || got.Every != want || got.Maybe != nil {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{`{"every": -1}`, `{"every": "-1s"}`, `{"every": "30"}`, `{"every": 1e30}`, `{"every": true}`, `{"every": null}`} {
		if err := Parse("x", []byte(text), &file{}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	var got file
	if _, err := Overlay("X_", []string{"X_EVERY=30s", "X_MAYBE=5000000000"}, &got); err != nil || got.Every != Duration(30*time.Second) || *got.Maybe != Duration(5*time.Second) {
		t.Errorf("%v %v", got, err)
	}
	if text, err := got.Every.MarshalText(); err != nil || string(text) != "30s" {
		t.Errorf("%s %v", text, err)
	}
}

func TestIgnored(t *testing.T) {
	type others struct {
		KVAddress Ignored `json:"kv_address,omitzero"`
		Partition Ignored `json:"partition,omitzero"`
		Other     Ignored `json:"other,omitzero"`
	}
	var v struct {
		ListenAddr string `json:"listen_addr"`
		others
	}
	err := Parse("x", []byte(`{"other": null, "kv_address": {"a": [1]}, "listen_addr": ":1"}`), &v)
	if diff := cmp.Diff([]string{"kv_address", "other"}, IgnoredIn(&v)); err != nil || diff != "" || v.ListenAddr != ":1" {
		t.Errorf("%v\n%s", err, diff)
	}
}
