// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestHostsMean(t *testing.T) {
	labels := map[string]string{"service": "shop", "env": "prod", "gpu": ""}
	for _, test := range []struct {
		hosts Hosts
		want  bool
	}{
		{Hosts{}, false},
		{Hosts{All: true}, true},
		{Hosts{Names: []string{"web-01"}}, true},
		{Hosts{Names: []string{"web-02", "web-*"}}, true},
		{Hosts{Names: []string{"web-02"}}, false},
		{Hosts{Names: []string{"web-[1"}}, false},
		{Hosts{Labels: "service=shop"}, true},
		{Hosts{Labels: "service==shop, env!=test"}, true},
		{Hosts{Labels: "service=shop,env!=prod"}, false},
		{Hosts{Labels: "gpu"}, true},
		{Hosts{Labels: "gpu="}, true},
		{Hosts{Labels: "!gpu"}, false},
		{Hosts{Labels: "!old"}, true},
		{Hosts{Labels: "old=no"}, false},
		{Hosts{Labels: "old!=yes"}, true},
		{Hosts{Names: []string{"web-*"}, Labels: "env=test"}, false},
		{Hosts{All: true, Labels: "= ="}, false},
	} {
		if got := test.hosts.Mean("web-01", labels); got != test.want {
			t.Errorf("%+v means web-01: %v, want %v", test.hosts, got, test.want)
		}
	}
}

func TestWhereIsChecked(t *testing.T) {
	good := Spec{Duration: time.Second, Frequency: 99}
	for _, test := range []struct {
		change func(*Spec)
		code   string // empty: good
	}{
		{func(s *Spec) { s.PIDs = []int{1} }, ""},
		{func(*Spec) {}, "no_target"},
		{func(s *Spec) { s.Select.Name = "post*" }, ""},
		{func(s *Spec) { s.Select.Name = "post[" }, "bad_selector"},
		{func(s *Spec) { s.Select = Selector{Name: "a", Unit: "b"} }, "bad_selector"},
		{func(s *Spec) { s.Select.Hottest = true }, ""},
		{func(s *Spec) { s.Select.Container = "0123456789ab" }, ""},
		{func(s *Spec) { s.Select.Container = "0123" }, "bad_selector"},
		{func(s *Spec) { s.Select.Container = "../../../../etc" }, "bad_selector"},
		{func(s *Spec) { s.Select.Cgroup = "system.slice" }, "bad_selector"},
		{func(s *Spec) { s.Select.Cgroup = "/system.slice" }, ""},
		{func(s *Spec) { s.Select.Unit = "a\nb" }, "bad_text"},
		{func(s *Spec) { s.Select.Unit = strings.Repeat("x", 1025) }, "bad_text"},
		{func(s *Spec) { s.PIDs, s.Hosts.Names = []int{1}, []string{""} }, "bad_host"},
		{func(s *Spec) { s.PIDs, s.Hosts.Names = []int{1}, []string{"[x"} }, "bad_host"},
		{func(s *Spec) { s.PIDs, s.Hosts = []int{1}, Hosts{All: true, Labels: "a=b"} }, "bad_host"},
		{func(s *Spec) { s.PIDs, s.Hosts.Most = []int{1}, -1 }, "bad_host"},
		{func(s *Spec) { s.PIDs, s.Hosts.Labels = []int{1}, "a=b,,c" }, "bad_labels"},
		{func(s *Spec) { s.PIDs, s.Hosts.Labels = []int{1}, "env in (a)" }, "bad_labels"},
		{func(s *Spec) { s.PIDs, s.Hosts.Labels = []int{1}, "a=b,!c,d!=e" }, ""},
		{func(s *Spec) { s.PIDs, s.AtOnce = []int{1}, -1 }, "bad_at_once"},
	} {
		spec := good
		test.change(&spec)
		err := spec.Validate()
		var e *Error
		if (test.code == "") != (err == nil) || err != nil && (!errors.As(err, &e) || e.Code != test.code || !errors.Is(err, ErrInvalid)) {
			t.Errorf("%+v: %v, want code %q", spec, err, test.code)
		}
	}
}

func TestErrorsAsJSON(t *testing.T) {
	for _, k := range kinds {
		e := &Error{Code: "some_code", Kind: k.kind, Problem: "it is so", Remedy: "make it otherwise", Cause: errors.New("because"), RetryAfter: 1500 * time.Millisecond}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Error
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if back.Code != e.Code || back.Kind != e.Kind || back.Error() != e.Error() || back.RetryAfter != e.RetryAfter || back.Remedy != e.Remedy {
			t.Errorf("%s became %+v", text, back)
		}
	}
	var of Error
	if err := json.Unmarshal([]byte(`{"code":"c","kind":"of tomorrow","message":"a sentence"}`), &of); err != nil || of.Kind != ErrUnavailable || of.Error() != "a sentence" {
		t.Errorf("%v %+v", err, of)
	}
	if err := json.Unmarshal([]byte(`{"code":7}`), &of); err == nil {
		t.Error("7 was taken for a code")
	}
}
