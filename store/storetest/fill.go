// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Filled is a record of which each field has a value of its own, so that one
// that is forgotten on the way is missed. Another seed gives other values; the
// states, and what must be as the interface says, are left to the caller's care:
// all wait.
func Filled(seed int) *store.Record {
	var rec store.Record
	f := filler{n: seed * 1000}
	f.fill(reflect.ValueOf(&rec).Elem())
	rec.Session.State, rec.Session.Hosts, rec.Revision = session.StatePending, nil, 1
	for i := range rec.Runs {
		rec.Runs[i].State = session.StatePending
	}
	return &rec
}

type filler struct{ n int }

// fill fills a value; what it does not know how to fill is a mistake in the
// suite.
func (f *filler) fill(v reflect.Value) {
	f.n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = began.Add(time.Duration(f.n) * time.Second)
		return
	case *session.State:
		*x = session.States[f.n%len(session.States)]
		return
	case *error:
		if f.n%2 == 0 { // so that a kind, and a cause, are such as there are
			*x = session.ErrBusy
		} else {
			*x = session.ErrUnavailable
		}
		return
	case *session.Error:
		*x = session.Error{Code: f.text(), Kind: session.ErrNoSamples, Problem: f.text(), Remedy: f.text(), Cause: errors.New(f.text()), RetryAfter: time.Duration(f.n)}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Float64:
		v.SetFloat(float64(f.n))
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(f.n))
	case reflect.String:
		v.SetString(f.text())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") == "-" {
				continue // it says itself that it is of a process, and not to be kept
			}
			f.fill(v.Field(i))
		}
	default:
		panic(fmt.Sprintf("storetest cannot fill a %v", v.Type()))
	}
}

func (f *filler) text() string {
	f.n++
	return fmt.Sprintf("text %06d <&> \"é\"", f.n)
}
