// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"path"
	"strings"
)

// Selector says which processes of a host are meant, where their PIDs are not
// known. It is resolved on the host, when sampling is to begin; the hottest
// process is the one that was when it was asked for there. Exactly one of
// its fields is set; the zero value means none.
type Selector struct {
	// Name of the process, as ps shows it, or of its executable. It may be a
	// pattern of path.Match: postgres*.
	Name string `json:"name,omitempty"`
	// Unit of systemd, ".service" may be left out. May be a pattern.
	Unit string `json:"unit,omitempty"`
	// Container ID, or at least the first 12 characters of one.
	Container string `json:"container,omitempty"`
	// Cgroup by path; what is below it is meant too.
	Cgroup string `json:"cgroup,omitempty"`
	// Hottest is the one process that used most CPU time just now.
	Hottest bool `json:"hottest,omitempty"`
}

// Empty says that it selects nothing.
func (s *Selector) Empty() bool { return *s == Selector{} }

// String is the selector in words, for people: name postgres.
func (s *Selector) String() string {
	for _, f := range s.texts() {
		if f.text != "" {
			return f.name + " " + f.text
		}
	}
	if s.Hottest {
		return "the hottest process"
	}
	return "no process"
}

type selectorText struct{ name, text string }

func (s *Selector) texts() []selectorText {
	return []selectorText{{"name", s.Name}, {"unit", s.Unit}, {"container", s.Container}, {"cgroup", s.Cgroup}}
}

// minContainer is how much of a container's ID docker and crictl show.
const minContainer = 12

// Validate checks what can be checked without a host. The error is an *Error of
// kind ErrInvalid.
func (s *Selector) Validate() error {
	set := 0
	for _, f := range s.texts() {
		if f.text == "" {
			continue
		}
		set++
		if err := checkText(f.name, f.text, 1024); err != nil {
			return err
		}
		if _, err := path.Match(f.text, ""); err != nil && (f.name == "name" || f.name == "unit") {
			return Invalid("bad_selector", fmt.Sprintf("the %s %q is no pattern: %v", f.name, f.text, err), "use * and ?, and [] in pairs")
		}
	}
	if s.Hottest {
		set++
	}
	if set != 1 {
		return Invalid("bad_selector", fmt.Sprintf("%d ways to choose processes are given", set), "use one: name, unit, container, cgroup or hottest")
	}
	if s.Container != "" && (len(s.Container) < minContainer || strings.ContainsAny(s.Container, "/*?")) {
		return Invalid("bad_selector", fmt.Sprintf("%q is no ID of a container", s.Container), fmt.Sprintf("give the whole of it, or the first %d characters at least", minContainer))
	}
	if s.Cgroup != "" && !strings.HasPrefix(s.Cgroup, "/") {
		return Invalid("bad_selector", fmt.Sprintf("%q is no path of a control group", s.Cgroup), "it begins with /, as in /proc/PID/cgroup")
	}
	return nil
}
