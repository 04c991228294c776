// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"errors"
	"io/fs"
)

// kinds are the kinds of failure with their names, by which they travel.
var kinds = []struct {
	name string
	kind error
}{
	{"invalid", ErrInvalid},
	{"no_samples", ErrNoSamples},
	{"not_found", ErrNotFound},
	{"not_ready", ErrNotReady},
	{"busy", ErrBusy},
	{"unavailable", ErrUnavailable},
	{"too_large", ErrTooLarge},
	{"canceled", ErrCanceled},
	{"no_process", fs.ErrNotExist},
	{"forbidden", ErrForbidden},
	{"permission", fs.ErrPermission},
	{"unsupported", errors.ErrUnsupported},
}

// KindName names the kind of an error; "" if it is of none.
func KindName(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.name
		}
	}
	return ""
}

// KindNamed is the kind of that name; nil if there is none.
func KindNamed(name string) error {
	for _, k := range kinds {
		if k.name == name {
			return k.kind
		}
	}
	return nil
}

// MarshalJSON writes what a program branches on and what a person reads.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code       string  `json:"code"`
		Kind       string  `json:"kind"`
		Message    string  `json:"message"`
		RetryAfter float64 `json:"retry_after_seconds,omitempty"`
	}{e.Code, KindName(e.Kind), e.Error(), e.RetryAfter.Seconds()})
}
