// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// TypeProfiler is the service type of our checks.
const TypeProfiler = "profiler"

// details of a check of type profiler with a results_interval say what to
// profile each time. They may be an address or nothing, as pollers need them for
// agents: then the newest session of the host is fetched, whoever started it.
type details struct {
	PID       int               `json:"pid"`
	Name      string            `json:"name"`
	Unit      string            `json:"unit"`
	Container string            `json:"container"`
	Cgroup    string            `json:"cgroup"`
	Hottest   bool              `json:"hottest"`
	Duration  seconds           `json:"duration"`
	Frequency profile.Frequency `json:"frequency"`
	Children  bool              `json:"children"`

	SessionID session.ID `json:"session_id"` // that one is fetched, as agents of ours understand it
}

// seconds is a duration as text, "10s", or as a number of seconds.
type seconds time.Duration

// UnmarshalJSON reads both.
func (s *seconds) UnmarshalJSON(b []byte) error {
	var n float64
	if json.Unmarshal(b, &n) == nil {
		if d := n * float64(time.Second); d >= 0 && d < math.MaxInt64 {
			*s = seconds(d)
			return nil
		}
		return fmt.Errorf("a duration of %s s is out of range", b)
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	*s = seconds(d)
	return err
}

func parseDetails(text string) (details, error) {
	d := details{Duration: seconds(session.DefaultDuration), Frequency: session.DefaultFrequency}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") {
		if text == "" || isHostPort(text) {
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
	if d.SessionID != "" && d.chooses() {
		return details{}, badDetails("details name a session, and a process too")
	}
	if !d.chooses() {
		return d, nil
	}
	spec := d.spec("")
	return d, spec.Validate()
}

// chooses says whether a process is named, which is to be profiled.
func (d *details) chooses() bool {
	s := d.selector()
	return d.PID != 0 || !s.Empty()
}

func (d *details) selector() session.Selector {
	return session.Selector{Name: d.Name, Unit: d.Unit, Container: d.Container, Cgroup: d.Cgroup, Hottest: d.Hottest}
}

// spec is what is asked of the fleet.
func (d *details) spec(host string) session.Spec {
	spec := session.Spec{Select: d.selector(), Children: d.Children, Duration: time.Duration(d.Duration), Frequency: d.Frequency, Requester: requester}
	if d.PID != 0 {
		spec.PIDs = []int{d.PID}
	}
	if host != "" {
		spec.Hosts.Names = []string{literally(host)}
	}
	return spec
}

func badDetails(problem string) error {
	return session.Invalid("bad_details", problem,
		`they may be an address, empty, {"session_id": "…"}, or one of pid, name, unit, container, cgroup and hottest, with duration, frequency and children: {"unit": "nginx", "duration": "10s"}`)
}
