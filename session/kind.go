// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"time"
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

// errorJSON has what a program branches on, what a person reads, and the parts
// of that.
type errorJSON struct {
	Code       string  `json:"code"`
	Kind       string  `json:"kind"`
	Message    string  `json:"message"`
	Problem    string  `json:"problem,omitempty"`
	Remedy     string  `json:"remedy,omitempty"`
	Cause      string  `json:"cause,omitempty"`
	RetryAfter float64 `json:"retry_after_seconds,omitempty"`
}

// MarshalJSON writes all of an error, the cause as text.
func (e *Error) MarshalJSON() ([]byte, error) {
	j := errorJSON{Code: e.Code, Kind: KindName(e.Kind), Message: e.Error(), Problem: e.Problem, Remedy: e.Remedy, RetryAfter: e.RetryAfter.Seconds()}
	if e.Cause != nil {
		j.Cause = e.Cause.Error()
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes. An error of a kind that is not
// known is of kind ErrUnavailable.
func (e *Error) UnmarshalJSON(b []byte) error {
	var j errorJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*e = Error{Code: j.Code, Kind: cmp.Or(KindNamed(j.Kind), ErrUnavailable), Problem: cmp.Or(j.Problem, j.Message), Remedy: j.Remedy,
		RetryAfter: time.Duration(math.Round(j.RetryAfter * float64(time.Second)))}
	if j.Cause != "" {
		e.Cause = errors.New(j.Cause)
	}
	return nil
}
