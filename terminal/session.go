// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// What a session says of itself comes from another host, names of its
// processes included: everything goes through Printable.

// ShortID is how much of an ID tables show, unless two would look the same.
const ShortID = 8

// shortest says how many bytes of these IDs tell them apart.
func shortest(all []session.Session) int {
	for n := ShortID; ; n++ {
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

// Short is the start of an ID.
func Short(id session.ID, n int) string { return Printable(string(id[:min(n, len(id))])) }

// WriteList is the table of srprof list.
func WriteList(w io.Writer, all []session.Session, wide bool) error {
	head := []string{"ID", "STATE", "TARGET", "PIDS", "AGE", "DURATION", "SAMPLES", "HOST"}
	if wide {
		head = append(head, "REQUESTER", "ASKED", "REASON")
	}
	t := NewTable(w, head...)
	n := shortest(all)
	for i := range all {
		s := &all[i]
		row := []string{Short(s.ID, n), State(s), Target(s), pids(s.Spec.PIDs), age(s.Created), lasted(s), strconv.FormatUint(s.Progress.Samples, 10), Where(s)}
		if wide {
			row = append(row, s.Spec.Requester, Asked(&s.Spec), reason(s.Err))
		}
		t.Row(row...)
	}
	return t.Write()
}

// Where is a session's host, or how many there are and failed.
func Where(s *session.Session) string {
	switch len(s.Hosts) {
	case 0:
		return Printable(s.Host)
	case 1:
		return Printable(s.Hosts[0].Host)
	}
	text := Plural(len(s.Hosts), "host", "hosts")
	if n := len(s.Failed()); n > 0 {
		text += fmt.Sprintf(" (%d failed)", n)
	}
	return text
}

// State is a session's state, and its place in the queue while it waits.
func State(s *session.Session) string {
	if s.State == session.StatePending && s.Position > 0 {
		return fmt.Sprintf("%s #%d", s.State, s.Position)
	}
	return Printable(string(s.State))
}

// Target names whom a session samples, shorter than a profile does:
// "redis-server +2"; what chooses them if they are not known, or not yet.
func Target(s *session.Session) string {
	all := s.Targets
	for i := range s.Hosts {
		if len(all) == 0 {
			all = s.Hosts[i].Targets
		}
	}
	if len(all) == 0 {
		if !s.Spec.Select.Empty() {
			return Printable(s.Spec.Select.String())
		}
		return "-"
	}
	name := Printable(cmp.Or(all[0].Title(), "-"))
	if n := len(s.Targets) - 1; n > 0 && len(s.Hosts) <= 1 {
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
		return fmt.Sprintf("%v of %v", Tenths(s.Progress.Elapsed), s.Spec.Duration)
	case s.State.Final():
		return Tenths(s.Progress.Elapsed).String()
	}
	return s.Spec.Duration.String()
}

// Tenths is a duration as exact as people want it.
func Tenths(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// Line tells of a session at this moment.
func Line(s *session.Session) string {
	switch {
	case s.State == session.StatePending && s.Position > 0:
		return fmt.Sprintf("pending: number %d in the queue", s.Position)
	case s.State == session.StatePending && len(s.Hosts) > 0 && s.Hosts[0].Waiting != "":
		return "pending: " + Printable(s.Hosts[0].Waiting)
	case s.State == session.StatePending:
		return "pending"
	}
	text := fmt.Sprintf("%s: %s, %d samples", Printable(string(s.State)), lasted(s), s.Progress.Samples)
	if len(s.Hosts) > 1 {
		text += ", " + tally(s.Hosts)
	}
	if s.Progress.Lost > 0 {
		text += fmt.Sprintf(", %d lost", s.Progress.Lost)
	}
	if s.State == session.StateRunning && s.Progress.Hottest != "" {
		text += ", hottest: " + Printable(s.Progress.Hottest)
	}
	if s.State.Final() && s.EndedBy != "" {
		text += ", " + Printable(string(s.EndedBy))
	}
	if s.Err != nil {
		text += fmt.Sprintf(": %s [%s]", Printable(s.Err.Error()), Printable(s.Err.Code))
	}
	return text
}

// tally counts the hosts by state: "9 running, 2 pending, 1 failed".
func tally(hosts []session.HostRun) string {
	count := map[session.State]int{}
	for i := range hosts {
		count[hosts[i].State]++
	}
	var texts []string
	for _, state := range []session.State{session.StateRunning, session.StatePending, session.StateSucceeded, session.StateCanceled, session.StateFailed} {
		if n := count[state]; n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return Plural(len(hosts), "host", "hosts") + ": " + strings.Join(texts, ", ")
}

// WriteSession is what srprof get shows.
func WriteSession(w io.Writer, s *session.Session) error {
	if err := writeFields(w, s); err != nil || len(s.Hosts) < 2 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return writeRuns(w, s.Hosts)
}

func writeFields(w io.Writer, s *session.Session) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	field := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	field("session", "%s", Printable(string(s.ID)))
	field("state", "%s", Line(s))
	field("host", "%s", Where(s))
	field("asked", "%s", Asked(&s.Spec))
	if s.Spec.Requester != "" {
		field("requester", "%s", Printable(s.Spec.Requester))
	}
	if len(s.Hosts) < 2 {
		for i := range s.Targets {
			g := &s.Targets[i]
			field("target", "%d %s %s", g.PID, Printable(g.Name), Printable(g.Command))
		}
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

// Asked is a spec in words.
func Asked(s *session.Spec) string {
	whom := "PID " + pids(s.PIDs)
	if !s.Select.Empty() {
		whom = Printable(s.Select.String())
	}
	text := fmt.Sprintf("%s for %v at %d Hz", whom, s.Duration, s.Frequency)
	if !s.Hosts.Empty() {
		text += ", on " + Printable(s.Hosts.String())
	}
	if s.AtOnce > 0 {
		text += fmt.Sprintf(", %d at once", s.AtOnce)
	}
	if s.Canary {
		text += ", one of them first"
	}
	if s.Children {
		text += ", with child processes"
	}
	if s.Attended {
		text += ", while somebody watches"
	}
	return text
}

// Shared tells who is not alone with a session that somebody else may end.
func Shared(s *session.Session) string {
	if s.Shared < 2 {
		return ""
	}
	return fmt.Sprintf("; the session serves %d requests", s.Shared)
}
