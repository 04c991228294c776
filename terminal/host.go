// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// WriteHosts is the table of srprof hosts. Why a host takes no sessions has a
// column only if there is something to say.
func WriteHosts(w io.Writer, all []session.Host, wide bool) error {
	reasons := slices.ContainsFunc(all, func(h session.Host) bool { return h.Err != nil })
	head := []string{"NAME", "STATE", "SINCE", "VERSION", "SESSIONS", "LABELS"}
	if wide {
		head = append(head, "ADDRESS", "INSTANCE")
	}
	if reasons {
		head = append(head, "REASON")
	}
	t := NewTable(w, head...)
	for i := range all {
		h := &all[i]
		sessions := strconv.Itoa(h.Running)
		if h.Queued > 0 {
			sessions += fmt.Sprintf(" (+%d waiting)", h.Queued)
		}
		row := []string{h.Name, cmp.Or(string(h.State), string(session.HostUnknown)), age(h.Since), h.Version, sessions, labels(h.Labels)}
		if wide {
			row = append(row, h.Address, h.Instance)
		}
		if reasons {
			row = append(row, reason(h.Err))
		}
		t.Row(row...)
	}
	return t.Write()
}

func labels(all map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		texts = append(texts, strings.TrimSuffix(key+"="+all[key], "="))
	}
	return strings.Join(texts, ",")
}

// WriteMatches is the table of a dry run.
func WriteMatches(w io.Writer, all []session.Match) error {
	t := NewTable(w, "HOST", "PROCESSES", "PIDS", "REASON")
	for i := range all {
		m := &all[i]
		t.Row(m.Host, strconv.Itoa(len(m.PIDs)), pids(m.PIDs), reason(m.Err))
	}
	return t.Write()
}

// writeRuns is the table of a session's hosts.
func writeRuns(w io.Writer, all []session.HostRun) error {
	t := NewTable(w, "HOST", "STATE", "SAMPLED", "SAMPLES", "LOST", "PROCESSES", "REASON")
	for i := range all {
		h := &all[i]
		why := reason(h.Err)
		if why == "" {
			why = cmp.Or(h.Waiting, string(h.EndedBy))
		}
		t.Row(h.Host, runState(h), Tenths(h.Progress.Elapsed).Round(time.Millisecond).String(), strconv.FormatUint(h.Progress.Samples, 10),
			strconv.FormatUint(h.Progress.Lost, 10), strconv.Itoa(len(h.Targets)), why)
	}
	return t.Write()
}

func runState(h *session.HostRun) string {
	if h.State == session.StatePending && h.Position > 0 {
		return fmt.Sprintf("%s #%d", h.State, h.Position)
	}
	return string(h.State)
}

// WriteFailed says which hosts of a session failed, and why.
func WriteFailed(w io.Writer, s *session.Session) {
	failed := s.Failed()
	if len(failed) == 0 {
		return
	}
	const most = 10
	fmt.Fprintf(w, "srprof: %d of %s failed:\n", len(failed), Plural(len(s.Hosts), "host", "hosts"))
	for i := range failed[:min(len(failed), most)] {
		fmt.Fprintf(w, "  %s: %s\n", Printable(failed[i].Host), cmp.Or(Printable(reason(failed[i].Err)), "it does not say why"))
	}
	if more := len(failed) - most; more > 0 {
		fmt.Fprintf(w, "  and %d more: srprof get %s\n", more, Short(s.ID, ShortID))
	}
}

// reason is an error in a cell: what is wrong, its cause and its code. What to do
// about it is in JSON, and so is what a cause that is such an error says of that.
func reason(e *session.Error) string {
	if e == nil {
		return ""
	}
	text := e.Problem
	if e.Cause != nil {
		why, _, _ := strings.Cut(e.Cause.Error(), "; ")
		text += " (" + why + ")"
	}
	return fmt.Sprintf("%s [%s]", text, e.Code)
}
