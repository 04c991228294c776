// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Hosts says on which hosts of a fleet a session runs. The zero value means the
// only one there is.
type Hosts struct {
	Names []string `json:"names,omitempty"` // each may be a pattern of path.Match: web-*
	// Labels is a selector as kubectl has them: "service=shop,env!=test,gpu,!old".
	Labels string `json:"labels,omitempty"`
	All    bool   `json:"all,omitempty"`
	// Most bounds how many of them; they are picked at random, but the same
	// ones for the same request ID. 0 means all of them.
	Most int `json:"most,omitempty"`
}

// Empty says that no host is named.
func (h *Hosts) Empty() bool { return len(h.Names) == 0 && h.Labels == "" && !h.All && h.Most == 0 }

// String is what was asked for, for people.
func (h *Hosts) String() string {
	var words []string
	switch {
	case h.All:
		words = append(words, "all hosts")
	case len(h.Names) > 0:
		words = append(words, strings.Join(h.Names, ", "))
	}
	if h.Labels != "" {
		words = append(words, "hosts with "+h.Labels)
	}
	if h.Most > 0 {
		words = append(words, fmt.Sprintf("at most %d", h.Most))
	}
	return strings.Join(words, ", ")
}

func (h *Hosts) same(o *Hosts) bool {
	return slices.Equal(h.Names, o.Names) && h.Labels == o.Labels && h.All == o.All && h.Most == o.Most
}

// Mean says whether a host of that name and those labels is meant: it must have
// one of the names, if there are any, and fit the labels, if there are any.
func (h *Hosts) Mean(name string, labels map[string]string) bool {
	named := func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // Validate refuses what is no pattern
		return ok || pattern == name
	}
	if len(h.Names) > 0 && !slices.ContainsFunc(h.Names, named) {
		return false
	}
	if len(h.Names) == 0 && h.Labels == "" && !h.All {
		return false
	}
	terms, err := parseLabels(h.Labels)
	return err == nil && !slices.ContainsFunc(terms, func(t labelTerm) bool { return !t.fits(labels) })
}

// Validate checks what can be checked without knowing the hosts. The error is an
// *Error of kind ErrInvalid.
func (h *Hosts) Validate() error {
	for _, name := range h.Names {
		if err := checkText("name of a host", name, 253); err != nil {
			return err
		}
		if _, err := path.Match(name, ""); err != nil || name == "" {
			return Invalid("bad_host", fmt.Sprintf("%q is no name of a host", name), "srprof hosts lists them; * and ? stand for others")
		}
	}
	if h.All && (len(h.Names) > 0 || h.Labels != "") {
		return Invalid("bad_host", "all hosts are asked for, and some by name or label", "choose one of both")
	}
	if h.Most < 0 {
		return Invalid("bad_host", fmt.Sprintf("a session cannot run on %d hosts", h.Most), "leave it out for all of them")
	}
	if err := checkText("label selector", h.Labels, 1024); err != nil {
		return err
	}
	_, err := parseLabels(h.Labels)
	return err
}

// labelTerm is one part of a label selector.
type labelTerm struct {
	key, value string
	exists     bool // only that there is such a label is asked for
	not        bool
}

func (t labelTerm) fits(labels map[string]string) bool {
	value, has := labels[t.key]
	if t.exists {
		return has != t.not
	}
	return (has && value == t.value) != t.not
}

// parseLabels reads the equality-based selectors of Kubernetes ("Labels and
// Selectors" of its documentation).
func parseLabels(selector string) ([]labelTerm, error) {
	if strings.TrimSpace(selector) == "" {
		return nil, nil
	}
	var terms []labelTerm
	for part := range strings.SplitSeq(selector, ",") {
		part = strings.TrimSpace(part)
		var t labelTerm
		key, value, equal := strings.Cut(part, "=")
		switch {
		case equal:
			key, t.not = strings.CutSuffix(key, "!")
			t.key, t.value = strings.TrimSpace(key), strings.TrimSpace(strings.TrimPrefix(value, "="))
		default:
			t.key, t.not = strings.CutPrefix(part, "!")
			t.exists = true
		}
		if t.key == "" || strings.ContainsAny(t.key+t.value, "=! ()") {
			return nil, Invalid("bad_labels", fmt.Sprintf("%q is no part of a label selector", part), "write key=value, key!=value, key or !key, with commas between")
		}
		terms = append(terms, t)
	}
	return terms, nil
}
