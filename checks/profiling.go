// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
)

// profiling is how profiling stands on all hosts, for checks of type profiler.
// The fleet is asked about all of them at once and not for each check, because
// there may be thousands.
type profiling struct {
	fleet   session.Fleet // nil: there is none
	version string
	fresh   time.Duration // how old an answer may be

	asking   sync.Mutex // held by who asks
	at       time.Time
	hosts    map[string]session.Host
	sessions map[string][]session.Session // by host, oldest first
	all      []session.Session
	err      error

	mu  sync.Mutex
	top map[topKey][]topFunction

	// cutting has room for one: profiles are megabytes.
	cutting chan struct{}
}

func newProfiling(fleet session.Fleet, version string, interval time.Duration) *profiling {
	return &profiling{fleet: fleet, version: version, fresh: interval / 2, top: map[topKey][]topFunction{}, cutting: make(chan struct{}, 1)}
}

const askFleetWithin = 15 * time.Second

// look asks the fleet, unless somebody just did.
func (p *profiling) look(ctx context.Context) error {
	p.asking.Lock()
	defer p.asking.Unlock()
	if time.Since(p.at) < p.fresh {
		return p.err
	}
	within, cancel := context.WithTimeout(ctx, askFleetWithin)
	defer cancel()
	hosts, err := p.fleet.Hosts(within, session.Hosts{All: true})
	var sessions []session.Session
	if err == nil {
		sessions, err = p.fleet.List(within, session.Filter{})
	}
	if ctx.Err() != nil {
		return ctx.Err() // the next one asks anew
	}
	p.at, p.err = time.Now(), err
	p.hosts, p.sessions, p.all = map[string]session.Host{}, map[string][]session.Session{}, sessions
	for _, h := range hosts {
		p.hosts[h.Name] = h
	}
	known := map[session.ID]bool{}
	for _, s := range sessions {
		known[s.ID] = true
		for _, h := range s.Hosts {
			p.sessions[h.Host] = append(p.sessions[h.Host], s)
		}
		if len(s.Hosts) == 0 {
			p.sessions[s.Host] = append(p.sessions[s.Host], s)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.top, func(k topKey, _ []topFunction) bool { return !known[k.id] })
	return err
}

// of is what is known of a host.
func (p *profiling) of(ctx context.Context, name string) (session.Host, []session.Session, bool, error) {
	if err := p.look(ctx); err != nil {
		return session.Host{}, nil, false, err
	}
	p.asking.Lock()
	defer p.asking.Unlock()
	h, known := p.hosts[name]
	return h, p.sessions[name], known, nil
}

// summary is what a status check tells of a host. It is small: core keeps each
// one.
type summary struct {
	Available bool              `json:"available"`
	Healthy   bool              `json:"healthy"`
	Reason    string            `json:"reason,omitempty"`
	Code      string            `json:"code,omitempty"`
	State     session.HostState `json:"state"`
	Since     time.Time         `json:"since,omitzero"`
	Version   string            `json:"version,omitempty"`
	Active    int               `json:"active_sessions"`
	Queued    int               `json:"queued_sessions"`
	Sessions  []sessionSummary  `json:"sessions"` // the last ones, newest first
	Poller    pollerSummary     `json:"poller"`
}

type sessionSummary struct {
	ID        session.ID    `json:"session_id"`
	State     session.State `json:"state"`
	Target    string        `json:"target"`
	Requester string        `json:"requester,omitempty"`
	Created   time.Time     `json:"created"`
	Ended     time.Time     `json:"ended,omitzero"`
	Reason    string        `json:"reason,omitempty"` // why it waits, or has failed
	Code      string        `json:"code,omitempty"`
	Samples   uint64        `json:"samples"`
	Top       []topFunction `json:"top,omitempty"`
}

// topFunction is one of those with the most samples of their own.
type topFunction struct {
	Function string  `json:"function"`
	Percent  float64 `json:"percent"`
}

type pollerSummary struct {
	Version string  `json:"version,omitempty"`
	Queued  int     `json:"queued_reports"`
	Dropped Dropped `json:"dropped_reports"`
}

// Of how much summaries tell.
const (
	mostSessions  = 5
	mostFunctions = 5
	mostText      = 256
)

// status is the answer to a status check; nil where the agent is to be asked,
// because nothing else is known of its host.
func (p *profiling) status(ctx context.Context, c *Checks, a *agent, check *Check) *serviceradar.CheckAnswer {
	if p.fleet == nil {
		return nil
	}
	began := time.Now()
	host, sessions, known, err := p.of(ctx, a.name)
	if err != nil {
		return &serviceradar.CheckAnswer{Message: failure(err, ""), ResponseTime: time.Since(began).Nanoseconds()}
	}
	if !known || host.State == session.HostUnsupported {
		return p.ofOldAgent(ctx, c, a, check)
	}
	s := summary{
		Available: host.State == session.HostReady, Healthy: host.State == session.HostReady, State: host.State, Since: host.Since.UTC().Truncate(time.Second),
		Version: host.Version, Active: host.Running, Queued: host.Queued, Sessions: []sessionSummary{},
	}
	if host.Since.IsZero() {
		s.Since = time.Time{}
	}
	if host.Err != nil {
		s.Reason, s.Code = clipped(host.Err.Error()), host.Err.Code
	}
	for i := len(sessions) - 1; i >= 0 && len(s.Sessions) < mostSessions; i-- {
		s.Sessions = append(s.Sessions, p.summaryOf(ctx, &sessions[i], a.name))
	}
	now := c.State()
	s.Poller = pollerSummary{p.version, now.Queued, now.Dropped}
	return &serviceradar.CheckAnswer{Available: s.Available, Message: marshaled(s), ResponseTime: time.Since(began).Nanoseconds()}
}

// ofOldAgent asks an agent that knows no sessions for what it knows of a
// profiler: older ones of ours tell something. A real one says nothing at all.
func (p *profiling) ofOldAgent(ctx context.Context, c *Checks, a *agent, check *Check) *serviceradar.CheckAnswer {
	answer, err := a.client.Status(ctx, c.request(a, check))
	switch {
	case err == nil && len(answer.Message) > 0:
		return answer
	case err == nil, errors.Is(err, errors.ErrUnsupported):
		return noProfiling()
	}
	return nil // it is asked again, and what goes wrong is told
}

func (p *profiling) summaryOf(ctx context.Context, s *session.Session, host string) sessionSummary {
	sum := sessionSummary{ID: s.ID, State: s.State, Requester: clipped(s.Spec.Requester), Created: s.Created.UTC(), Ended: s.Ended.UTC(), Samples: s.Progress.Samples}
	if s.Ended.IsZero() {
		sum.Ended = time.Time{}
	}
	err, waiting, targets := s.Err, "", s.Targets
	for _, h := range s.Hosts {
		if h.Host == host {
			sum.State, sum.Samples, waiting, targets = h.State, h.Progress.Samples, h.Waiting, h.Targets
			err = cmp.Or(h.Err, err)
		}
	}
	sum.Reason = clipped(waiting)
	if err != nil && sum.State != session.StateSucceeded {
		sum.Reason, sum.Code = clipped(err.Error()), err.Code
	}
	switch {
	case len(targets) > 0 && targets[0].Name != "":
		sum.Target = targets[0].Name
	case !s.Spec.Select.Empty():
		sum.Target = s.Spec.Select.String()
	case len(s.Spec.PIDs) > 0:
		sum.Target = "PID " + strconv.Itoa(s.Spec.PIDs[0])
	}
	if sum.Target = clipped(sum.Target); sum.State == session.StateSucceeded {
		sum.Top = p.topOf(ctx, s, host)
	}
	return sum
}

type topKey struct {
	id   session.ID
	host string
}

// topOf are the hottest functions of a profile. They are found once.
func (p *profiling) topOf(ctx context.Context, s *session.Session, host string) []topFunction {
	key := topKey{s.ID, host}
	p.mu.Lock()
	top, found := p.top[key]
	p.mu.Unlock()
	if found {
		return top
	}
	select {
	case p.cutting <- struct{}{}:
		defer func() { <-p.cutting }()
	case <-ctx.Done():
		return nil
	}
	want := session.Want{Format: "folded"}
	if len(s.Hosts) > 1 {
		want.Host = host
	}
	content, err := p.fleet.Fetch(ctx, s.ID, want)
	if err != nil { // what else there is to tell does not depend on it
		if hopeless(err) {
			p.remember(key, nil)
		}
		return nil
	}
	defer content.Body.Close()
	if top, err = hottestOf(content.Body); err != nil {
		return nil
	}
	p.remember(key, top)
	return top
}

func (p *profiling) remember(key topKey, top []topFunction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.top[key] = top
}

// hottestOf finds the leaves of folded text with the most samples.
func hottestOf(folded io.Reader) ([]topFunction, error) {
	self := map[string]uint64{}
	var total uint64
	in := bufio.NewScanner(folded)
	in.Buffer(make([]byte, 0, 64<<10), 4<<20)
	for in.Scan() {
		line := in.Text()
		i := strings.LastIndexByte(line, ' ')
		n, err := strconv.ParseUint(line[i+1:], 10, 64)
		if i < 0 || err != nil {
			return nil, errors.New("no folded text")
		}
		leaf := line[:i]
		self[strings.Clone(leaf[strings.LastIndexByte(leaf, ';')+1:])] += n
		total += n
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	names := slices.SortedFunc(maps.Keys(self), func(x, y string) int { return cmp.Or(cmp.Compare(self[y], self[x]), cmp.Compare(x, y)) })
	var top []topFunction
	for _, name := range names[:min(len(names), mostFunctions)] {
		top = append(top, topFunction{clipped(name), float64(self[name]*1000/max(total, 1)) / 10})
	}
	return top, nil
}

// clipped bounds a text in a summary.
func clipped(text string) string {
	if len(text) <= mostText {
		return text
	}
	return strings.ToValidUTF8(text[:mostText], "") + "…"
}

// noProfiling is what is told of an agent that knows nothing of profiling.
func noProfiling() *serviceradar.CheckAnswer {
	return &serviceradar.CheckAnswer{Message: marshaled(map[string]any{
		"available": false, "healthy": false, "state": session.HostUnsupported, "code": codeNoProfiling,
		"reason": "the agent of this host knows no profiling; its other checks go on", "error": "no profiling",
	})}
}

const codeNoProfiling = "no_profiling"

// failure is what is told of a check of ours that failed.
func failure(err error, id session.ID) []byte {
	told := struct {
		Available bool       `json:"available"`
		Error     string     `json:"error"`
		Code      string     `json:"code,omitempty"`
		SessionID session.ID `json:"session_id,omitempty"`
	}{Error: err.Error(), SessionID: id}
	var e *session.Error
	if errors.As(err, &e) {
		told.Code = e.Code
	}
	return marshaled(told)
}
