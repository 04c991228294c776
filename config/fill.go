// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// fill puts a tree into the struct that v points to.
func fill(p *problems, root *node, v any) {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: %T is not a pointer to a struct", v)) // a mistake in the program, not in a file
	}
	f := filler{p, target.Elem().Type()}
	f.object(root, "", target.Elem())
}

type filler struct {
	p    *problems
	root reflect.Type // where misplaced keys may belong
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	ignoredType  = reflect.TypeFor[Ignored]()
	spanType     = reflect.TypeFor[Duration]()
)

// Duration is a time.Duration as ServiceRadar's files have them: text, or a
// number of nanoseconds.
type Duration time.Duration

// String is as time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes it as text.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Ignored is a key that is taken with any value, because files of other
// programs have it, and has no effect.
type Ignored struct {
	There bool `json:"-"` // in the file
}

// IgnoredIn are the names of the keys without effect that were in the file, in
// the order of the fields of the struct that v points to.
func IgnoredIn(v any) []string {
	var names []string
	of := reflect.ValueOf(v).Elem()
	for _, field := range reflect.VisibleFields(of.Type()) {
		if field.Type != ignoredType {
			continue
		}
		if of.FieldByIndex(field.Index).Interface().(Ignored).There {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

func (f *filler) value(n *node, key string, to reflect.Value) {
	switch kind := to.Kind(); {
	case to.Type() == ignoredType:
		to.Set(reflect.ValueOf(Ignored{There: true}))
	case n.value == nil:
		f.p.add(n.offset, key, fmt.Sprintf("%q is null", key), "leave it out to have the default")
	case to.Type() == durationType:
		f.duration(n, key, to)
	case to.Type() == spanType:
		f.span(n, key, to)
	case kind == reflect.Pointer:
		if to.IsNil() {
			to.Set(reflect.New(to.Type().Elem()))
		}
		f.value(n, key, to.Elem())
	case kind == reflect.Struct:
		f.object(n, key, to)
	case kind == reflect.Map:
		f.table(n, key, to)
	case kind == reflect.Slice:
		f.list(n, key, to)
	default:
		f.scalar(n, key, to)
	}
}

func (f *filler) wrong(n *node, key, wanted string) {
	f.p.add(n.offset, key, fmt.Sprintf("%q is %s", key, n.what()), "it must be "+wanted)
}

// wrongKind is wrong for what holds other values.
func (f *filler) wrongKind(n *node, key, wanted string) {
	f.p.add(n.offset, key, fmt.Sprintf("%q is %s", key, n.kind()), "it must be "+wanted)
}

func (f *filler) object(n *node, path string, to reflect.Value) {
	if n.value != json.Delim('{') {
		f.wrongKind(n, path, "an object: { … }")
		return
	}
	known := fields(to.Type())
	for _, m := range n.members {
		key := join(path, m.key)
		i, ok := known[m.key]
		if !ok {
			f.p.add(m.offset, key, fmt.Sprintf("there is no key %q", key), f.suggest(m.key, path, known))
			continue
		}
		f.value(m.node, key, to.FieldByIndex(i))
	}
}

// fields are the fields of a struct by their names in JSON.
func fields(t reflect.Type) map[string][]int {
	all := map[string][]int{}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" && field.IsExported() {
			all[name] = field.Index
		}
	}
	return all
}

func (f *filler) table(n *node, key string, to reflect.Value) {
	if n.value != json.Delim('{') {
		f.wrongKind(n, key, "an object: { … }")
		return
	}
	to.Set(reflect.MakeMap(to.Type()))
	for _, m := range n.members {
		v := reflect.New(to.Type().Elem()).Elem()
		f.value(m.node, join(key, m.key), v)
		to.SetMapIndex(reflect.ValueOf(m.key).Convert(to.Type().Key()), v)
	}
}

func (f *filler) list(n *node, key string, to reflect.Value) {
	if n.value != json.Delim('[') {
		f.wrongKind(n, key, "a list: [ … ]")
		return
	}
	all := reflect.MakeSlice(to.Type(), len(n.list), len(n.list))
	for i, v := range n.list {
		f.value(v, fmt.Sprintf("%s[%d]", key, i), all.Index(i))
	}
	to.Set(all)
}

func (f *filler) duration(n *node, key string, to reflect.Value) {
	text, ok := n.value.(string)
	d, err := time.ParseDuration(text)
	if !ok || err != nil || d < 0 {
		f.wrong(n, key, `a duration, as "10s", "500ms" or "1h30m"`)
		return
	}
	to.SetInt(int64(d))
}

func (f *filler) span(n *node, key string, to reflect.Value) {
	number, isNumber := n.value.(json.Number)
	if !isNumber {
		f.duration(n, key, to)
		return
	}
	ns, err := number.Float64() // as ServiceRadar's reads it
	if err != nil || ns < 0 || ns >= math.MaxInt64 {
		f.wrong(n, key, `a duration, as "10s", "500ms" or "1h30m", or a number of nanoseconds`)
		return
	}
	to.SetInt(int64(ns))
}

func (f *filler) scalar(n *node, key string, to reflect.Value) {
	number, isNumber := n.value.(json.Number)
	text := number.String()
	switch kind := to.Kind(); {
	case kind == reflect.String:
		if s, ok := n.value.(string); ok {
			to.SetString(s)
		} else {
			f.wrong(n, key, `text: "…"`)
		}
	case kind == reflect.Bool:
		if b, ok := n.value.(bool); ok {
			to.SetBool(b)
		} else {
			f.wrong(n, key, "true or false")
		}
	case to.CanInt():
		if i, err := strconv.ParseInt(text, 10, to.Type().Bits()); isNumber && err == nil {
			to.SetInt(i)
		} else {
			f.wrong(n, key, fmt.Sprintf("a whole number from %d to %d", int64(-1)<<(to.Type().Bits()-1), int64(math.MaxInt64)>>(64-to.Type().Bits())))
		}
	case to.CanUint():
		if u, err := strconv.ParseUint(text, 10, to.Type().Bits()); isNumber && err == nil {
			to.SetUint(u)
		} else {
			f.wrong(n, key, fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-to.Type().Bits())))
		}
	case to.CanFloat():
		if x, err := strconv.ParseFloat(text, to.Type().Bits()); isNumber && err == nil {
			to.SetFloat(x)
		} else {
			f.wrong(n, key, "a number")
		}
	default:
		panic(fmt.Sprintf("config: %s has type %s", key, to.Type())) // a mistake in the program, not in a file
	}
}
