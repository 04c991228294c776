// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/spelling"
)

// suggest says what an unknown key was probably meant to be: one of that name
// in another object, or one that is spelled nearly so in the same, or the one
// there that has it in its name.
func (f *filler) suggest(key, path string, known map[string][]int) string {
	if where, ok := f.elsewhere(key, path); ok && where == "" {
		return fmt.Sprintf("%q belongs into the outermost object", key)
	} else if ok {
		return fmt.Sprintf("%q belongs into %q", key, where)
	}
	names := slices.Sorted(maps.Keys(known))
	if near := spelling.Nearest(key, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	where := "here"
	if path != "" {
		where = fmt.Sprintf("in %q", path)
	}
	return fmt.Sprintf("known %s: %s", where, strings.Join(names, ", "))
}

// elsewhere is the object that has a key of that name: of several, the one
// that has most of the path in common.
func (f *filler) elsewhere(key, path string) (where string, ok bool) {
	most := -1
	for _, full := range Keys(reflect.New(f.root).Interface()) {
		object, name := cutLast(full)
		if name != key {
			continue
		}
		common := 0
		for common < min(len(object), len(path)) && object[common] == path[common] {
			common++
		}
		if common > most {
			where, ok, most = object, true, common
		}
	}
	return where, ok
}

// cutLast cuts off the last name of a key.
func cutLast(full string) (where, name string) {
	i := strings.LastIndexByte(full, '.')
	return full[:max(i, 0)], full[i+1:]
}

// Keys are all keys of the struct that v points to, with those of objects
// within it after a dot, sorted.
func Keys(v any) []string {
	var all []string
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		for name, index := range fields(t) {
			field := t.FieldByIndex(index).Type
			for field.Kind() == reflect.Pointer {
				field = field.Elem()
			}
			all = append(all, join(path, name))
			if field.Kind() == reflect.Struct {
				walk(field, join(path, name))
			}
		}
	}
	walk(reflect.TypeOf(v).Elem(), "")
	slices.Sort(all)
	return all
}
