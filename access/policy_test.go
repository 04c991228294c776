// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// read reads a policy as a configuration has it.
func read(t *testing.T, text string) (*Policy, error) {
	t.Helper()
	var c struct {
		Access Policy `json:"access"`
	}
	if err := config.Parse("test.json", []byte(`{"access": `+text+`}`), &c); err != nil {
		return nil, err
	}
	return &c.Access, c.Access.Validate()
}

func policy(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRoles(t *testing.T) {
	p := policy(t, `{
		"roles": {"root": ["admin"], "spiffe://e/agents/*": ["operator"], "look": ["viewer"], "start": ["starter"],
			"all": ["everything"], "two": ["viewer", "starter"], "*": ["nothing"]},
		"permissions": {"starter": ["profiling:start"], "everything": ["profiling:*"], "nothing": []}}`)
	for name, c := range map[string]struct {
		who  auth.Peer
		want string // of start, read, cancel, delegate
	}{
		"admin":          {auth.Peer{CommonName: "root"}, "src d"},
		"operator":       {auth.Peer{URIs: []string{"spiffe://e/agents/1"}}, "src"},
		"viewer":         {auth.Peer{DNSNames: []string{"look"}}, "r"},
		"own":            {auth.Peer{CommonName: "start"}, "s"},
		"own, wildcard":  {auth.Peer{CommonName: "all"}, "src d"},
		"two":            {auth.Peer{CommonName: "two"}, "sr"},
		"two identities": {auth.Peer{CommonName: "start", DNSNames: []string{"look"}}, "sr"},
		"none":           {auth.Peer{CommonName: "nobody"}, ""},
		"local":          {auth.Peer{Local: true}, ""},
		"no names":       {auth.Peer{}, ""},
	} {
		roles := p.rolesOf(&c.who)
		for _, w := range []struct {
			letter string
			what   Permission
		}{{"s", PermissionStart}, {"r", PermissionRead}, {"c", PermissionCancel}, {"d", PermissionDelegate}, {"-", "config:read"}} {
			if got, want := len(p.may(roles, w.what)) > 0, strings.Contains(c.want, w.letter); got != want && !(w.letter == "-" && name == "admin") {
				t.Errorf("%s (%v): %s is %v", name, roles, w.what, got)
			}
		}
	}
	if roles := (&Policy{}).rolesOf(&auth.Peer{CommonName: "root", Local: true}); roles != nil {
		t.Errorf("roles by default: %v", roles)
	}
}

func TestPolicyIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                                           "",
		`{"roles": {"a": ["admin"]}}`:                                  "",
		`{"role": {"a": ["admin"]}}`:                                   `access.role"`,
		`{"roles": {"a": ["root"]}}`:                                   `the role "root", which nothing says what it may`,
		`{"roles": {"a*": ["admin"]}}`:                                 "stands where it means nothing",
		`{"roles": {"": ["admin"]}}`:                                   "is no identity",
		`{"permissions": {"viewer": []}}`:                              "what the role viewer may, which is fixed",
		`{"permissions": {"": []}}`:                                    `a role called ""`,
		`{"permissions": {"a": ["fly"]}}`:                              `"fly", which is no permission`,
		`{"permissions": {"a": [""]}}`:                                 "which is no permission",
		`{"permissions": {"a": ["prof*"]}}`:                            "which is no permission",
		`{"scope": {"allow": {"x": [{"users": ["a"]}]}}}`:              `the role "x"`,
		`{"scope": {"allow": {"operator": []}}}`:                       "",
		`{"scope": {"allow": {"operator": [{}]}}}`:                     "names nothing",
		`{"scope": {"allow": {"operator": [{"names": ["a"]}]}}}`:       "which any process can get",
		`{"scope": {"allow": {"operator": [{"pids": [1]}]}}}`:          "which any process can get",
		`{"scope": {"never": [{"pids": [0]}]}}`:                        "not positive",
		`{"scope": {"never": [{"units": ["nginx"]}]}}`:                 `the unit "nginx"`,
		`{"scope": {"never": [{"units": ["[.service"]}]}}`:             `the unit "[.service"`,
		`{"scope": {"never": [{"executables": ["sshd"]}]}}`:            `the executable "sshd"`,
		`{"scope": {"never": [{"cgroups": ["a"]}]}}`:                   `the control group "a"`,
		`{"scope": {"never": [{"cgroups": ["/a/"]}]}}`:                 `the control group "/a/"`,
		`{"scope": {"never": [{"users": ["9-3"]}]}}`:                   `the user "9-3"`,
		`{"scope": {"never": [{"user": ["a"]}]}}`:                      `never[0].user"`,
		`{"scope": {"never": [{"users": ["0-99", "www-data", "5"]}]}}`: "",
		`{"scope": {"hosts": {"operator": [{"names": ["a"]}]}}}`:       "this service is on one host",
		`{"rate": {"per_second": -1}}`:                                 "access.rate",
		`{"rate": {"burst": 1.5}}`:                                     "burst",
	} {
		_, err := read(t, text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		var e *session.Error
		if errors.As(err, &e) && e.Code != "bad_access" {
			t.Errorf("%s: code %s", text, e.Code)
		}
	}
}

// A poller's rules are about hosts, and not about processes, which it does not see.
func TestPolicyOfFleets(t *testing.T) {
	for text, want := range map[string]string{
		`{"roles": {"a": ["operator"]}, "scope": {"hosts": {"operator": [{"names": ["web-*"]}, {"labels": "env!=prod,!old"}]}}}`: "",
		`{"scope": {"hosts": {"operator": []}}}`:                  "",
		`{"scope": {"hosts": {"x": [{"names": ["a"]}]}}}`:         `the role "x"`,
		`{"scope": {"hosts": {"operator": [{}]}}}`:                "names nothing",
		`{"scope": {"hosts": {"operator": [{"names": ["["]}]}}}`:  "is no name of a host",
		`{"scope": {"hosts": {"operator": [{"labels": "= ="}]}}}`: "no part of a label selector",
		`{"scope": {"hosts": {"operator": [{"users": ["a"]}]}}}`:  `users"`,
		`{"scope": {"never": [{"names": ["sshd"]}]}}`:             "does not see",
		`{"scope": {"allow": {"operator": []}}}`:                  "does not see",
		`{"roles": {"a": ["root"]}}`:                              `the role "root"`,
	} {
		p, err := read(t, text)
		if p != nil {
			err = p.ValidateFleet()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		var e *session.Error
		if errors.As(err, &e) && e.Code != "bad_access" {
			t.Errorf("%s: code %s", text, e.Code)
		}
	}
}

func TestRanges(t *testing.T) {
	meant, err := uids([]string{"100-102", "root", "7", "nobody-of-this-name"})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for u := range uint32(200) {
		if meant(u) {
			got = append(got, u)
		}
	}
	if !slices.Equal(got, []uint32{0, 7, 100, 101, 102}) {
		t.Errorf("%v", got)
	}
}

// Whatever a role is called and has, it covers nothing that it was not given.
func FuzzPermission(f *testing.F) {
	f.Add("profiling:*")
	f.Add("*")
	f.Add(":*")
	f.Fuzz(func(t *testing.T, has string) {
		got := Permission(has).covers(PermissionStart)
		if want := has == "*" || has == "profiling:*" || has == "profiling:start"; got != want {
			t.Errorf("%q: %v", has, got)
		}
	})
}
