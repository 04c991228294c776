// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/carverauto/serviceradar-profiler/spelling"
)

// Overlay puts variables of the environment over the struct that v points to,
// after [Read]: for the key a.b_c that is PREFIX_A_B_C, as ServiceRadar's
// services spell them. It returns the names of those that it found, sorted. A
// variable that begins with the prefix and stands for no key is an error, as an
// unknown key in a file is; an empty one is as if it were not there.
//
// Text, numbers and durations are written as they are, lists of text with
// commas or as JSON, all else as JSON. An object replaces what it names, and
// variables for keys within it are put over that.
func Overlay(prefix string, environ []string, v any) (found []string, err error) {
	keys := variables(prefix, v)
	values := map[string]string{}
	var wrong []error
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, prefix) || value == "" || serviceLink.MatchString(name[len(prefix):]) {
			continue
		}
		if _, ok := keys[name]; !ok {
			wrong = append(wrong, unknownVariable(name, keys))
			continue
		}
		values[name] = value
		found = append(found, name)
	}
	// An object comes before what is in it.
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(keys[a], keys[b]) })
	for _, name := range found {
		wrong = append(wrong, overlay(name, keys[name], values[name], v)...)
	}
	slices.Sort(found)
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return found, errors.Join(wrong[:min(len(wrong), maxErrors)]...)
}

// serviceLink is what Kubernetes and Docker put into the environment of each
// container for a service whose name happens to be our prefix.
var serviceLink = regexp.MustCompile(`^(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$`)

// variables are the keys by the names of their variables.
func variables(prefix string, v any) map[string]string {
	all := map[string]string{}
	for _, key := range Keys(v) {
		name := Variable(prefix, key)
		if other, twice := all[name]; twice {
			panic(fmt.Sprintf("config: %s stands for %s and for %s", name, other, key)) // a mistake in the program
		}
		all[name] = key
	}
	return all
}

// Variable is the name of the variable that stands for a key.
func Variable(prefix, key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func unknownVariable(name string, keys map[string]string) error {
	e := &Error{Code: "config_invalid", File: "environment", Problem: "there is no setting " + clipped(name), Remedy: "docs/configuration.md lists the keys; unset it"}
	least := max(2, len(name)/5) + 1
	for known := range keys {
		if d := spelling.Distance(strings.ToUpper(name), known, least+1); d < least || d == least && known < e.Key {
			least, e.Key = d, known
		}
	}
	if e.Key != "" {
		e.Remedy = fmt.Sprintf("did you mean %s?", e.Key)
	}
	e.Key = name
	return e
}

// clipped bounds what a sentence quotes.
func clipped(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// overlay sets one key.
func overlay(name, key, text string, v any) []error {
	p := &problems{file: name, text: []byte(text)}
	to := reflect.ValueOf(v).Elem()
	f := filler{p, to.Type()}
	for part := range strings.SplitSeq(key, ".") {
		if to.Kind() == reflect.Pointer {
			if to.IsNil() {
				to.Set(reflect.New(to.Type().Elem()))
			}
			to = to.Elem()
		}
		to = to.FieldByIndex(fields(to.Type())[part])
	}
	n, err := variableNode(p, to.Type(), key, text)
	if err != nil {
		return []error{err}
	}
	f.value(n, key, to)
	return p.found
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

// variableNode makes a node of the text of a variable.
func variableNode(p *problems, t reflect.Type, key, text string) (*node, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(text) > maxSize {
		return nil, p.whole("the value is longer than 16 MiB", "a setting is shorter")
	}
	if !utf8.ValidString(text) {
		return nil, p.whole("the value is not UTF-8", "a setting is")
	}
	switch {
	case t == durationType || t.Kind() == reflect.String || t == spanType && !isNumber(text):
		return &node{offset: nowhere, value: text}, nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(text), "["):
		list := &node{offset: nowhere, value: json.Delim('[')}
		for one := range strings.SplitSeq(text, ",") {
			list.list = append(list.list, &node{offset: nowhere, value: strings.TrimSpace(one)})
		}
		return list, nil
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Map, t.Kind() == reflect.Struct:
		return parseValue(p, key)
	}
	var scalar any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&scalar); err != nil || d.More() {
		return &node{offset: nowhere, value: text}, nil // what it should be is told by who fills it in
	}
	switch scalar.(type) {
	case json.Number, bool:
		return &node{offset: nowhere, value: scalar}, nil
	}
	return &node{offset: nowhere, value: text}, nil
}
