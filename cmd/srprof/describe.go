// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// What a session says of itself comes from another host, names of its
// processes included: everything goes through printable.

// shortID is how much of an ID tables show, unless two would look the same.
const shortID = 8

// shortest says how many bytes of these IDs tell them apart.
func shortest(all []session.Session) int {
	for n := shortID; ; n++ {
		seen, longer := map[session.ID]bool{}, false
		same := false
		for i := range all {
			id := all[i].ID
			start := id[:min(n, len(id))]
			same = same || seen[start]
			longer = longer || len(id) > n
			seen[start] = true
		}
		if !same || !longer {
			return n
		}
	}
}

func short(id session.ID, n int) string { return printable(string(id[:min(n, len(id))])) }

// writeList is the table of srprof list.
func writeList(w io.Writer, all []session.Session) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tTARGET\tPIDS\tAGE\tDURATION\tSAMPLES\tHOST")
	n := shortest(all)
	for i := range all {
		s := &all[i]
		fmt.Fprintln(t, strings.Join([]string{short(s.ID, n), state(s), target(s), pids(s.Spec.PIDs),
			age(s.Created), lasted(s), strconv.FormatUint(s.Progress.Samples, 10), cmp.Or(printable(s.Host), "-")}, "\t"))
	}
	return t.Flush()
}

func state(s *session.Session) string {
	if s.State == session.StatePending && s.Position > 0 {
		return fmt.Sprintf("%s #%d", s.State, s.Position)
	}
	return printable(string(s.State))
}

// target names whom a session samples as a profile does: "redis-server and 2
// more"; "-" if that is not known, or not yet.
func target(s *session.Session) string {
	if len(s.Targets) == 0 {
		return "-"
	}
	name := printable(cmp.Or(s.Targets[0].Name, path.Base(s.Targets[0].Command)))
	if n := len(s.Targets) - 1; n > 0 {
		name += fmt.Sprintf(" +%d", n)
	}
	return name
}

// pids are the first ones: a session may have a thousand.
func pids(all []int) string {
	const most = 3
	var b strings.Builder
	for i, pid := range all {
		if i == most {
			fmt.Fprintf(&b, " +%d", len(all)-most)
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(pid))
	}
	return b.String()
}

// age tells how long ago something was, as short as kubectl does. Clocks of two
// hosts differ: what is not yet, was now.
func age(then time.Time) string {
	d := max(time.Since(then), 0)
	switch {
	case then.IsZero():
		return "-"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// lasted is how long a session sampled, and of how long while it does.
func lasted(s *session.Session) string {
	switch {
	case s.State == session.StateRunning:
		return fmt.Sprintf("%v of %v", tenths(s.Progress.Elapsed), s.Spec.Duration)
	case s.State.Final():
		return tenths(s.Progress.Elapsed).String()
	}
	return s.Spec.Duration.String()
}

func tenths(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// line tells of a session at this moment.
func line(s *session.Session) string {
	switch {
	case s.State == session.StatePending && s.Position > 0:
		return fmt.Sprintf("pending: number %d in the queue", s.Position)
	case s.State == session.StatePending:
		return "pending"
	}
	text := fmt.Sprintf("%s: %s, %d samples", printable(string(s.State)), lasted(s), s.Progress.Samples)
	if s.Progress.Lost > 0 {
		text += fmt.Sprintf(", %d lost", s.Progress.Lost)
	}
	if s.State == session.StateRunning && s.Progress.Hottest != "" {
		text += ", hottest: " + printable(s.Progress.Hottest)
	}
	if s.State.Final() && s.EndedBy != "" {
		text += ", " + printable(string(s.EndedBy))
	}
	if s.Err != nil {
		text += fmt.Sprintf(": %s [%s]", printable(s.Err.Error()), printable(s.Err.Code))
	}
	return text
}

// writeSession is what srprof get shows.
func writeSession(w io.Writer, s *session.Session) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	field := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	field("session", "%s", printable(string(s.ID)))
	field("state", "%s", line(s))
	field("host", "%s", printable(s.Host))
	field("asked", "%s", asked(&s.Spec))
	if s.Spec.Requester != "" {
		field("requester", "%s", printable(s.Spec.Requester))
	}
	for i := range s.Targets {
		g := &s.Targets[i]
		field("target", "%d %s %s", g.PID, printable(g.Name), printable(g.Command))
	}
	if s.Shared > 1 {
		field("shared", "by %d requests", s.Shared)
	}
	for _, moment := range []struct {
		name string
		at   time.Time
	}{{"created", s.Created}, {"started", s.Started}, {"ended", s.Ended}, {"kept until", s.Expires}} {
		if !moment.at.IsZero() {
			field(moment.name, "%s", moment.at.Local().Format("2006-01-02 15:04:05.000"))
		}
	}
	if p := &s.Progress; s.State != session.StatePending {
		field("samples", "%d, %d lost, %d truncated", p.Samples, p.Lost, p.Truncated)
	}
	return t.Flush()
}

// asked is a spec in words.
func asked(s *session.Spec) string {
	text := fmt.Sprintf("PID %s for %v at %d Hz", pids(s.PIDs), s.Duration, s.Frequency)
	if s.Children {
		text += ", with child processes"
	}
	if s.Attended {
		text += ", while somebody watches"
	}
	return text
}

// writeJSON is the form for programs: an object, or a line of it.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	return e.Encode(v)
}
