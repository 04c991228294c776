// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"testing"

	"github.com/carverauto/serviceradar-profiler/store"
)

// A comparison that finds nothing different would pass whatever is forgotten.
func TestForgettingIsNoticed(t *testing.T) {
	all := Filled(1)
	for what, of := range map[string]func(*store.Record) reflect.Value{
		"record":  func(r *store.Record) reflect.Value { return reflect.ValueOf(r).Elem() },
		"session": func(r *store.Record) reflect.Value { return reflect.ValueOf(&r.Session).Elem() },
		"spec":    func(r *store.Record) reflect.Value { return reflect.ValueOf(&r.Session.Spec).Elem() },
		"run":     func(r *store.Record) reflect.Value { return reflect.ValueOf(&r.Runs[1]).Elem() },
		"run's":   func(r *store.Record) reflect.Value { return reflect.ValueOf(&r.Runs[1].HostRun).Elem() },
		"error":   func(r *store.Record) reflect.Value { return reflect.ValueOf(r.Runs[1].Err).Elem() },
	} {
		v := of(all)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			switch what + "." + name {
			case "session.Hosts", // not kept here
				"spec.Again",   // of one process
				"error.Undone": // of one call
				continue
			}
			changed := Filled(1)
			of(changed).Field(i).SetZero()
			if equal(all, changed) {
				t.Errorf("%s of a %s could be forgotten", name, what)
			}
		}
	}
	if !equal(all, Filled(1)) || equal(all, Filled(2)) {
		t.Error("records cannot be told apart")
	}
}
