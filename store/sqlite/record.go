// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// errRecord is in the way of a record that can never be kept: it is the
// caller's fault, not that of the file.
var errRecord = errors.New("not a record")

// kept is a session in its column: without what has columns or rows of its own.
type kept struct {
	session.Session
	Requests []string `json:"requests,omitempty"`
	// Always nil, in place of the session's.
	Spec    *struct{} `json:"spec,omitempty"`
	Created *struct{} `json:"created,omitempty"`
	Hosts   *struct{} `json:"hosts,omitempty"`
}

// asked is what of a session is written once.
type asked struct {
	Spec    session.Spec `json:"spec"`
	Created time.Time    `json:"created"`
}

func encode(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRecord, err)
	}
	return string(b), nil
}

func encodeSession(rec *store.Record) (string, error) {
	return encode(kept{Session: rec.Session, Requests: rec.Requests})
}

// decodeSession reads what is not a column of its own.
func decodeSession(first, current []byte, rec *store.Record) error {
	var (
		a asked
		k kept
	)
	if err := decode(first, &a); err != nil {
		return err
	}
	if err := decode(current, &k); err != nil {
		return err
	}
	rec.Session, rec.Requests = k.Session, k.Requests
	rec.Session.Spec, rec.Session.Created = a.Spec, a.Created
	return nil
}

func decode(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return damagedRow{err}
	}
	return nil
}

// damagedRow says that what was read is not what was ever written.
type damagedRow struct{ error }

// encoded are the columns of a record.
type encoded struct {
	asked, session string
	runs           []encodedRun
}

type encodedRun struct{ host, state, run string }

func encodeRecord(rec *store.Record) (*encoded, error) {
	if rec.Session.ID == "" {
		return nil, fmt.Errorf("%w: a session without an ID", errRecord)
	}
	if !rec.Session.State.Known() {
		return nil, fmt.Errorf("%w: a session cannot begin as %q", store.ErrTransition, rec.Session.State)
	}
	var (
		e   encoded
		err error
	)
	if e.asked, err = encode(asked{rec.Session.Spec, rec.Session.Created}); err != nil {
		return nil, err
	}
	if e.session, err = encodeSession(rec); err != nil {
		return nil, err
	}
	hosts := make(map[string]bool, len(rec.Runs))
	e.runs = make([]encodedRun, len(rec.Runs))
	for i := range rec.Runs {
		r := &rec.Runs[i]
		if hosts[r.Host] {
			return nil, fmt.Errorf("%w: two runs on host %q", errRecord, r.Host)
		}
		hosts[r.Host] = true
		if e.runs[i], err = encodeRun(r); err != nil {
			return nil, err
		}
	}
	return &e, nil
}

func encodeRun(r *store.Run) (encodedRun, error) {
	if !r.State.Known() {
		return encodedRun{}, fmt.Errorf("%w: a run cannot be %q", store.ErrTransition, r.State)
	}
	text, err := encode(r)
	return encodedRun{r.Host, string(r.State), text}, err
}
