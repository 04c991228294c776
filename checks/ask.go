// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
)

// Types and names that pollers treat in ways of their own.
const (
	typeSync  = "sync"
	typeSweep = "sweep"
	typePort  = "port"
)

func (c *Checks) request(a *agent, check *Check) *serviceradar.CheckRequest {
	r := &serviceradar.CheckRequest{Name: check.Name, Type: check.Type, AgentID: a.name, PollerID: c.config.PollerID, Details: check.Details}
	if check.Type == typePort {
		r.Port = check.Port
	}
	return r
}

// status makes a status check.
func (c *Checks) status(ctx context.Context, a *agent, i int) *finding {
	check := &a.status[i]
	f := &finding{agent: a.name, check: check.Name, order: i}
	if check.Type == TypeProfiler {
		if answer := c.profiler.status(ctx, c, a, check); answer != nil {
			f.service = c.service(a, check, answer, serviceradar.SourceStatus)
			return f
		}
	}
	answer, err := a.client.Status(ctx, c.request(a, check))
	if err != nil {
		c.log.Warn("a check failed", "agent", a.name, "check", check.Name, "error", err.Error())
		answer = &serviceradar.CheckAnswer{Message: failed("Service check failed")}
	}
	f.service = c.service(a, check, answer, serviceradar.SourceStatus)
	return f
}

// failed is how real pollers tell core that a check failed.
func failed(text string) []byte {
	return marshaled(map[string]string{"error": text})
}

// resultsCheck is a check for results, and what is remembered of it.
type resultsCheck struct {
	Check
	order    int
	schedule *schedule // nil: the agent is asked

	mu       sync.Mutex
	last     time.Time // when it was asked for
	sequence string    // of what core was told
}

func (c *Checks) resultsCheck(a *agent, check Check) *resultsCheck {
	r := &resultsCheck{Check: check, order: len(a.results)}
	if check.Type == TypeProfiler && c.profiler.fleet != nil {
		if d, err := parseDetails(check.Details); err == nil && d.chooses() { // it was validated
			r.schedule = newSchedule(c, a, check, d)
		}
	}
	return r
}

func (r *resultsCheck) due(now time.Time) bool {
	if r.schedule != nil {
		return true // it knows itself
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Sub(r.last) >= time.Duration(*r.ResultsInterval)
}

func (r *resultsCheck) remember(last time.Time, sequence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = last
	if sequence != "" {
		r.sequence = sequence
	}
}

// synced says whether real pollers take a check's results for a list of devices.
func (c *Check) synced() bool { return strings.Contains(c.Name, typeSync) && c.Type != TypeProfiler }

// results asks for results. nil is for nobody: nothing is new, or the agent has
// no results of that kind.
func (c *Checks) results(ctx context.Context, a *agent, r *resultsCheck) *finding {
	if r.schedule != nil {
		return r.schedule.step(ctx, a)
	}
	began := time.Now()
	f := &finding{agent: a.name, check: r.Name, order: r.order}
	request := c.request(a, &r.Check)
	request.Port = 0
	r.mu.Lock()
	request.LastSequence = r.sequence
	r.mu.Unlock()
	ask := a.client.Results
	if r.Type == typeSync || r.Type == typeSweep || r.synced() {
		ask = a.client.StreamResults
	}
	answer, err := ask(ctx, request)
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // by the end of Run: it is as if it had not been asked
		return nil
	case errors.Is(err, errors.ErrUnsupported) && r.Type == TypeProfiler:
		answer = noProfiling()
	case errors.Is(err, errors.ErrUnsupported):
		r.remember(began, "")
		return nil
	case err != nil:
		c.log.Warn("results cannot be had", "agent", a.name, "check", r.Name, "error", err.Error())
		f.service = c.service(a, &r.Check, &serviceradar.CheckAnswer{Message: failed("GetResults failed: " + err.Error())}, serviceradar.SourceResults)
		r.remember(began, "")
		return f
	}
	r.remember(began, answer.Sequence)
	if !answer.New && r.Type == typeSweep && !r.synced() {
		return nil
	}
	f.service = c.service(a, &r.Check, answer, serviceradar.SourceResults)
	f.lost = func() { r.restore(request.LastSequence) }
	return f
}

// restore has the same results asked for again, in the next poll.
func (r *resultsCheck) restore(sequence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.sequence = time.Time{}, sequence
}

// service is how core is told what an agent said.
func (c *Checks) service(a *agent, check *Check, answer *serviceradar.CheckAnswer, source string) serviceradar.ServiceStatus {
	s := serviceradar.ServiceStatus{
		Name: check.Name, Type: check.Type, Available: answer.Available, ResponseTime: answer.ResponseTime, AgentID: orElse(answer.AgentID, a.name), Source: source,
		Message: withHost(answer.Message, a.where.names(a.name, check)),
	}
	if source == serviceradar.SourceResults && check.synced() {
		s.Type = typeSync
	}
	if s.Type != typeSync {
		s.Message = c.enveloped(&s)
	}
	return s
}

func (c *Checks) enveloped(s *serviceradar.ServiceStatus) []byte {
	return marshaled(envelope{
		PollerID: c.config.PollerID, AgentID: s.AgentID, Partition: c.config.partition(), ServiceType: s.Type, ServiceName: s.Name, Data: json.RawMessage(s.Message),
	})
}
