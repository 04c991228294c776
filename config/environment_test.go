// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOverlay(t *testing.T) {
	got := outer{ListenAddr: ":1", Count: 10, Headers: map[string]string{"old": "1"}, Units: []string{"old"}}
	got.Security.Mode = "mtls"
	got.Security.TLS.CertFile = "old"
	_, err := Overlay("X_", []string{
		"X_LISTEN_ADDR=:2=3", "X_DEBUG=true", "X_MAX_CONCURRENT_SESSIONS=7", "X_SMALL=255", "X_SHARE=1e-1", "X_GRACE=1m30s", "X_UNITS=a, b",
		`X_HEADERS={"a": "b"}`, "X_SECURITY_TLS_CERT_FILE=c", `X_SECURITY={"tls": {"cert_file": "outer", "cert_file": "twice"}}`,
		"X_OTHER_CERT_FILE=o", "PATH=/bin", "x_debug=no", "X=1", "X_SECURITY_MODE=",
	}, &got)
	if err == nil || !strings.Contains(err.Error(), `X_SECURITY:1:32: "security.tls.cert_file" is there twice`) {
		t.Fatal(err)
	}
	found, err := Overlay("X_", []string{
		"X_LISTEN_ADDR=:2=3", "X_DEBUG=true", "X_MAX_CONCURRENT_SESSIONS=7", "X_SMALL=255", "X_SHARE=1e-1", "X_GRACE=1m30s", "X_UNITS=a, b",
		`X_HEADERS={"a": "b"}`, "X_SECURITY_TLS_CERT_FILE=c", `X_SECURITY={"tls": {"cert_file": "outer"}}`,
		"X_OTHER_CERT_FILE=o", "PATH=/bin", "x_debug=no", "X=1", "X_SECURITY_MODE=",
	}, &got)
	if err != nil {
		t.Fatal(err)
	}
	want := outer{ListenAddr: ":2=3", Debug: true, Count: 7, Small: 255, Share: 0.1, Grace: 90 * time.Second, Units: []string{"a", "b"},
		Headers: map[string]string{"a": "b"}, Other: &inner{"o"}}
	want.Security.Mode, want.Security.TLS.CertFile = "mtls", "c"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	names := []string{"X_DEBUG", "X_GRACE", "X_HEADERS", "X_LISTEN_ADDR", "X_MAX_CONCURRENT_SESSIONS", "X_OTHER_CERT_FILE", "X_SECURITY", "X_SECURITY_TLS_CERT_FILE", "X_SHARE", "X_SMALL", "X_UNITS"}
	if !slices.Equal(found, names) {
		t.Errorf("%q", found)
	}
}

func TestOverlayList(t *testing.T) {
	for text, want := range map[string][]string{
		"a": {"a"}, "a,b": {"a", "b"}, ` ["a, b", "c"]`: {"a, b", "c"}, "[]": {},
	} {
		var got outer
		if _, err := Overlay("X_", []string{"X_UNITS=" + text}, &got); err != nil || !slices.Equal(got.Units, want) {
			t.Errorf("%s: %q: %v", text, got.Units, err)
		}
	}
}

func TestOverlayBad(t *testing.T) {
	for _, c := range []struct{ variable, want string }{
		{"X_LISTEN_ADRR=:1", `environment: there is no setting X_LISTEN_ADRR; did you mean X_LISTEN_ADDR?`},
		{"X_listen_addr=:1", `there is no setting X_listen_addr; did you mean X_LISTEN_ADDR?`},
		{"X_CERT_FILE=:1", `there is no setting X_CERT_FILE; `},
		{"X_SECURITY__MODE=none", `there is no setting X_SECURITY__MODE; did you mean X_SECURITY_MODE?`},
		{"X_WHOLLY_DIFFERENT=1", `there is no setting X_WHOLLY_DIFFERENT; docs/configuration.md lists the keys; unset it`},
		{"X_=1", `there is no setting X_`},
		{"X_SMALL=256", `X_SMALL: "small" is the number 256; it must be a whole number from 0 to 255`},
		{"X_SMALL=many", `X_SMALL: "small" is the text "many"; it must be a whole number`},
		{"X_SMALL=0x10", `X_SMALL: "small" is the text "0x10"`},
		{"X_DEBUG=yes", `X_DEBUG: "debug" is the text "yes"; it must be true or false`},
		{"X_DEBUG=1", `X_DEBUG: "debug" is the number 1; it must be true or false`},
		{"X_DEBUG=null", `X_DEBUG: "debug" is the text "null"`},
		{"X_GRACE=10", `X_GRACE: "grace" is the text "10"; it must be a duration`},
		{"X_UNITS=[1]", `X_UNITS:1:2: "units[0]" is the number 1`},
		{`X_SECURITY={"mod": "a"}`, `X_SECURITY:1:2: there is no key "security.mod"; did you mean "mode"?`},
		{"X_LISTEN_ADDR=\xff", `X_LISTEN_ADDR: the value is not UTF-8`},
		{"X_LISTEN_ADDR=" + strings.Repeat("a", maxSize+1), `X_LISTEN_ADDR: the value is longer than 16 MiB`},
		{"X_" + strings.Repeat("A", 1000) + "=1", "AAA…"},
	} {
		_, err := Overlay("X_", []string{c.variable}, new(outer))
		var e *Error
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &e) || e.Code != "config_invalid" || len(err.Error()) > 1000 {
			t.Errorf("%.40s:\ngot  %v\nwant %s", c.variable, err, c.want)
		}
	}
}

// What holds secrets is not told when it is misplaced.
func TestSecretsAreNotTold(t *testing.T) {
	for _, c := range []struct{ text, variable string }{
		{`{"headers": "Bearer hunter2"}`, "X_HEADERS=Bearer hunter2"},
		{`{"headers": ["Bearer hunter2"]}`, `X_HEADERS=["hunter2"]`},
		{`{"security": "hunter2"}`, `X_SECURITY="hunter2"`},
	} {
		err := Parse("x", []byte(c.text), new(outer))
		_, err2 := Overlay("X_", []string{c.variable}, new(outer))
		if err == nil || err2 == nil || strings.Contains(err.Error()+err2.Error(), "hunter2") {
			t.Errorf("%v\n%v", err, err2)
		}
	}
}

// Kubernetes tells each container of each service by variables, whatever the
// name of the service makes of them.
func TestServiceLinks(t *testing.T) {
	links := []string{"X_SERVICE_HOST=10.0.0.1", "X_SERVICE_PORT=1", "X_SERVICE_PORT_GRPC=1", "X_PORT=tcp://10.0.0.1:1", "X_PORT_1_TCP=tcp://10.0.0.1:1",
		"X_PORT_1_TCP_PROTO=tcp", "X_PORT_1_TCP_PORT=1", "X_PORT_1_TCP_ADDR=10.0.0.1"}
	if found, err := Overlay("X_", links, new(outer)); len(found) > 0 || err != nil {
		t.Errorf("%q: %v", found, err)
	}
}

func TestAmbiguousVariables(t *testing.T) {
	defer func() {
		if p := recover(); p != "config: X_A_B stands for a.b and for a_b" {
			t.Errorf("%v", p)
		}
	}()
	_, err := Overlay("X_", nil, &struct {
		A struct {
			B int `json:"b"`
		} `json:"a"`
		AB int `json:"a_b"`
	}{})
	t.Errorf("there are two of one name: %v", err)
}

// Whatever the environment holds, it is taken or refused with the name of the
// variable.
func FuzzOverlay(f *testing.F) {
	for _, seed := range []string{"DEBUG=true", "SECURITY_MODE=x", `SECURITY={"tls": {"cert_file": 1}}`, "UNITS=a,b", "UNITS=[", "GRACE=1h", "SMALL=1e2", "=", "SERVICE_HOST=1", `OTHER={"a":[[`, "HEADERS=null"} {
		f.Add("X_" + seed)
	}
	f.Fuzz(func(t *testing.T, variable string) {
		var v outer
		found, err := Overlay("X_", []string{variable}, &v)
		if err == nil {
			return
		}
		if len(found) > 1 {
			t.Fatalf("%q", found)
		}
		for _, err := range split(err) {
			var e *Error
			name, _, _ := strings.Cut(variable, "=")
			if !errors.As(err, &e) || e.Problem == "" || !strings.HasPrefix(e.File, "environment") && e.File != name {
				t.Fatalf("%#v", err)
			}
		}
	})
}
