// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// details is what a check's configuration can ask for. Agents and pollers pass
// its text on as it is, and agents want the checker's address in that place.
type details struct {
	SessionID session.ID `json:"session_id"`
	PID       int        `json:"pid"`
}

// parseDetails reads a JSON object; an address or nothing means the newest
// session.
func parseDetails(text string) (details, error) {
	var d details
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		if text == "" || isAddress(text) {
			return d, nil
		}
		return d, badDetails(fmt.Sprintf("details are %.100q", text))
	}
	in := json.NewDecoder(strings.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&d); err != nil {
		return details{}, badDetails("details cannot be read: " + err.Error())
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return details{}, badDetails("details go on after the object")
	}
	if d.PID < 0 || d.PID > 0 && d.SessionID != "" {
		return details{}, badDetails(fmt.Sprintf("details name session %.64q and PID %d", d.SessionID, d.PID))
	}
	return d, nil
}

func isAddress(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func badDetails(problem string) error {
	return session.Invalid("bad_details", problem, `they may be an address, empty, {"session_id": "…"} or {"pid": 4242}`)
}

// asked is what a check asked for: of the sessions that it means the newest
// that has ended, and the newest that has not.
type asked struct {
	ended, running *session.Session
}

func (m *monitoringServer) find(ctx context.Context, text string) (asked, error) {
	var a asked
	d, err := parseDetails(text)
	if err != nil {
		return a, err
	}
	var all []session.Session
	if d.SessionID != "" {
		all = make([]session.Session, 1)
		all[0], err = m.runner.Get(ctx, d.SessionID)
	} else {
		all, err = m.runner.List(ctx, session.Filter{PID: d.PID})
	}
	if err != nil {
		return a, err
	}
	for i := range all {
		s := &all[i]
		switch {
		case !s.State.Final():
			a.running = s // List's order is that of age
		case a.ended == nil || !s.Ended.Before(a.ended.Ended):
			a.ended = s
		}
	}
	return a, nil
}

// sequence is by which a poller knows what it has had already.
func (a *asked) sequence() string {
	if a.ended == nil {
		return ""
	}
	return string(a.ended.ID)
}

func (a *asked) newTo(in *monitoring.ResultsRequest) bool {
	return a.ended != nil && a.sequence() != in.GetLastSequence()
}

// completion tells how far it is in the only words that the interface has for
// long jobs, although they are called after sweeps.
func (a *asked) completion() *monitoring.SweepCompletionStatus {
	if s := a.running; s != nil {
		return &monitoring.SweepCompletionStatus{
			Status: monitoring.SweepCompletionStatus_IN_PROGRESS, TargetSequence: string(s.ID), TotalTargets: int32(len(s.Spec.PIDs)),
		}
	}
	s := a.ended
	if s == nil {
		return &monitoring.SweepCompletionStatus{Status: monitoring.SweepCompletionStatus_NOT_STARTED}
	}
	c := &monitoring.SweepCompletionStatus{
		Status: monitoring.SweepCompletionStatus_COMPLETED, TargetSequence: string(s.ID), CompletionTime: s.Ended.Unix(),
		TotalTargets: int32(len(s.Spec.PIDs)), CompletedTargets: int32(len(s.Spec.PIDs)),
	}
	if s.State == session.StateFailed {
		c.Status, c.CompletedTargets = monitoring.SweepCompletionStatus_FAILED, 0
		if s.Err != nil {
			c.ErrorMessage = remote.Short(s.Err.Error())
		}
	}
	return c
}

// results is the JSON object that a poller carries to core. Of one session it
// is always the same, however often it is asked for.
type results struct {
	Available bool             `json:"available"`
	HostIP    string           `json:"host_ip"`
	Hostname  string           `json:"hostname"`
	Version   string           `json:"version"`
	Status    hostStatus       `json:"status"`
	Error     string           `json:"error,omitempty"`
	Code      string           `json:"code,omitempty"`
	Message   string           `json:"message,omitempty"` // why there is no folded text
	Running   session.ID       `json:"running_session_id,omitempty"`
	SessionID session.ID       `json:"session_id,omitempty"`
	Session   *session.Session `json:"session,omitempty"`
	Piece     int              `json:"piece,omitempty"` // from 1, where there are several
	Pieces    int              `json:"pieces,omitempty"`
	Folded    string           `json:"folded,omitempty"`
	Text      *textSize        `json:"folded_size,omitempty"`
	TextCut   bool             `json:"folded_truncated"` // only the hottest stacks are in the text
	Whole     *whole           `json:"whole,omitempty"`

	wantsText bool
}

// textSize is how much of the text there is, and how much of it was sent.
type textSize struct {
	Stacks      int    `json:"stacks"`
	StacksSent  int    `json:"stacks_sent"`
	Samples     uint64 `json:"samples"`
	SamplesSent uint64 `json:"samples_sent"`
}

// whole is where all of a profile can be fetched while the session is known.
type whole struct {
	Method    string     `json:"method"`
	SessionID session.ID `json:"session_id"`
	Command   string     `json:"command"`
}

// mostTargets is of how many targets results tell; a session may have
// thousands.
const mostTargets = 16

// describe is all of the answer but the text.
func (m *monitoringServer) describe(a *asked, in *monitoring.ResultsRequest) *results {
	r := m.results()
	if a.running != nil {
		r.Running = a.running.ID
	}
	if a.ended == nil {
		r.Message = "no session has ended yet"
		return r
	}
	s := *a.ended
	s.Targets, s.Hosts = s.Targets[:min(len(s.Targets), mostTargets)], slices.Clone(s.Hosts[:min(len(s.Hosts), mostTargets)])
	for i := range s.Hosts {
		s.Hosts[i].Targets = s.Hosts[i].Targets[:min(len(s.Hosts[i].Targets), mostTargets)]
	}
	r.SessionID, r.Session, r.Status.Timestamp = s.ID, &s, s.Ended.UTC()
	switch {
	case !a.newTo(in):
		r.Message = "nothing has ended since last_sequence"
	case s.State == session.StateFailed:
		r.Message = "the session failed"
		if s.Err != nil {
			r.Message = s.Err.Error()
		}
	default:
		r.wantsText = true
		r.Whole = &whole{"/profiler.ProfilerService/GetProfilingResults", s.ID, "srprof fetch " + string(s.ID)}
	}
	return r
}

func (m *monitoringServer) results() *results {
	return &results{
		Available: true, HostIP: m.about.HostIP, Hostname: m.about.Host, Version: m.about.Version,
		Status: hostStatus{HostIP: m.about.HostIP, Hostname: m.about.Host},
	}
}

// failed is the answer of a check that could not be done.
func (m *monitoringServer) failed(err error) *results {
	r := m.results()
	r.Available, r.Error = false, err.Error()
	var e *session.Error
	switch {
	case errors.As(err, &e):
		r.Code = e.Code
	case errors.Is(err, context.DeadlineExceeded):
		r.Error, r.Code = fmt.Sprintf("the profile could not be made ready within %v; ask again, or fetch it with srprof", resultsWithin), "too_slow"
	}
	return r
}

// ResultsOf is the object with which a check for results of type profiler is
// answered, of one session that has ended: of its profile as much as fits, and
// where all of it is.
func ResultsOf(ctx context.Context, runner session.Runner, about About, id session.ID) (data []byte, available bool, err error) {
	m := &monitoringServer{runner: runner, about: about}
	s, err := runner.Get(ctx, id)
	if err != nil {
		return nil, false, err
	}
	a := asked{ended: &s}
	r := m.describe(&a, &monitoring.ResultsRequest{})
	if s.State == session.StateFailed {
		r = m.failedSession(r, &s)
	}
	if r.wantsText {
		r.Whole.Method = remote.MethodFetch
		content, err := m.fetch(ctx, r)
		if err != nil {
			return nil, false, err
		}
		if content != nil {
			defer content.Body.Close()
			if err := r.cut(content.Body); err != nil {
				return nil, false, err
			}
		}
	}
	data, err = encoded(r, r)
	return data, r.Available, err
}

// failedSession says of a session that was started for a check what became of
// that check.
func (m *monitoringServer) failedSession(r *results, s *session.Session) *results {
	r.Available, r.Error, r.Message = false, r.Message, ""
	if s.Err != nil {
		r.Code = s.Err.Code
	}
	return r
}

// maxAnswer is for the JSON of one answer or chunk. Pollers take 4 MiB, and cut
// what is more than 3 MiB with their own envelope into pieces that are no JSON.
const maxAnswer = 3<<20 - 64<<10

// room is what is left for text, as it counts once it is in JSON.
func (r *results) room() (int, error) {
	data, err := json.Marshal(r)
	return maxAnswer - len(data) - 1024, err // 1024: keys and numbers that are not known yet
}

// cut adds the text, or its hottest stacks if there is no room for more.
func (r *results) cut(text io.Reader) error {
	room, err := r.room()
	if err != nil {
		return err
	}
	h := hottest{room: room}
	if err := h.read(text); err != nil {
		return err
	}
	var kept strings.Builder
	kept.Grow(h.length())
	r.Text = &textSize{Stacks: h.stacks, StacksSent: len(h.kept), Samples: h.samples}
	for _, l := range h.kept {
		kept.WriteString(l.text)
		kept.WriteByte('\n')
		r.Text.SamplesSent += l.count
	}
	r.Folded, r.TextCut = kept.String(), r.Text.StacksSent < r.Text.Stacks
	return nil
}
