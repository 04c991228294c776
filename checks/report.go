// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/queue"
)

// entry is what lies in the queue: services of one poll. Those of one poll are
// told to core together, and yet apart in the queue, so that there is something
// to drop first when it is full.
type entry struct {
	Poll     int64                        `json:"poll"` // when it was written down: nanoseconds of Unix
	Services []serviceradar.ServiceStatus `json:"services"`
}

func (e *entry) time() time.Time { return time.Unix(0, e.Poll) }

// report writes down what was found since the last time.
func (c *Checks) report(began time.Time) {
	findings := c.waiting.take()
	poll := time.Now().UnixNano()
	summary := entry{Poll: poll, Services: []serviceradar.ServiceStatus{}} // which core gets although nothing was found: the poller lives
	var results []*finding
	var told []func()
	for _, f := range findings {
		if f.service.Source == serviceradar.SourceResults {
			results = append(results, f)
			continue
		}
		summary.Services = append(summary.Services, f.service)
		if f.told != nil {
			told = append(told, f.told)
		}
	}
	c.outbox.writing.Lock() // who sends waits for all of it
	defer c.outbox.writing.Unlock()
	losses, tellLosses := c.losses()
	summary.Services = append(summary.Services, losses...)
	if c.put(queue.Summary, &summary) {
		told = append(told, tellLosses)
	}
	for _, group := range grouped(results) {
		told = append(told, c.putResults(poll, group)...)
	}
	for _, tell := range told {
		tell()
	}
	if err := c.reported.save(); err != nil {
		c.log.Error("what was reported of scheduled profiles cannot be written down: after a restart core gets it again", "error", err.Error())
	}
	c.log.Debug("polled", "services", len(findings), "seconds", time.Since(began).Seconds())
	c.tellDropped()
}

// groupBytes is how large the messages in one entry of results may be together.
// To write an entry takes two flushes of the disk, and thousands of agents may
// have results in each poll; what goes when the queue is full should be little
// all the same.
const groupBytes = 256 << 10

// grouped are results that go into the queue together.
func grouped(results []*finding) (groups [][]*finding) {
	size := 0
	for _, f := range results {
		size += len(f.service.Message)
		if len(groups) == 0 || size > groupBytes {
			groups, size = append(groups, nil), len(f.service.Message)
		}
		last := &groups[len(groups)-1]
		*last = append(*last, f)
	}
	return groups
}

// putResults writes results down. It returns whom to tell that this is done.
func (c *Checks) putResults(poll int64, group []*finding) (told []func()) {
	e := entry{Poll: poll}
	for _, f := range group {
		e.Services = append(e.Services, f.service)
	}
	kept := c.put(queue.Result, &e)
	for _, f := range group {
		switch {
		case kept && f.told != nil:
			told = append(told, f.told)
		case !kept && f.lost != nil:
			f.lost()
		}
	}
	return told
}

// put writes an entry down. When that is not possible it is sent nevertheless,
// if core is there, but not kept.
func (c *Checks) put(kind queue.Kind, e *entry) bool {
	err := c.queue.Put(kind, marshaled(e))
	switch {
	case err == nil:
		return true
	case errors.Is(err, session.ErrTooLarge): // and will be so the next time
		c.log.Error("a report is too large to be kept for core", "error", err.Error())
		c.outbox.refuse()
		return true
	}
	c.outbox.fail("a report cannot be written down, and is lost unless core takes it now", err, c)
	if kind == queue.Summary {
		c.outbox.spare(e)
	}
	return false
}

// losses are what core is told of what it will never get.
func (c *Checks) losses() ([]serviceradar.ServiceStatus, func()) {
	now := c.outbox.dropped(c.queue)
	if c.reported.wasTold(now) {
		return nil, func() {}
	}
	s := serviceradar.ServiceStatus{Name: "reports", Type: TypeProfiler, Available: true, AgentID: c.config.PollerID, Source: serviceradar.SourceStatus}
	s.Message = marshaled(struct {
		Available bool    `json:"available"`
		Message   string  `json:"message"`
		Dropped   Dropped `json:"dropped"`
	}{true, fmt.Sprintf("core was away for so long that reports were dropped: %d of status, %d of results", now.Summaries, now.Results), now})
	s.Message = c.enveloped(&s)
	return []serviceradar.ServiceStatus{s}, func() { c.reported.told(now) }
}

// Dropped counts what was not kept until core was there.
type Dropped struct {
	Summaries uint64 `json:"summaries"` // of one poll each
	Results   uint64 `json:"results"`   // entries of them: see groupBytes
	Refused   uint64 `json:"refused"`   // core will never take them; or neither the disk nor core took them
	Damaged   uint64 `json:"damaged"`   // on disk
}

// outbox is how it stands with telling core.
type outbox struct {
	writing sync.Mutex // held while the entries of one poll are written
	wake    chan struct{}

	mu      sync.Mutex
	unsaved *entry // of the last poll, where it could not be written down
	refused uint64
	state   State
	logged  time.Time // the last time that something is wrong with the disk
	seen    Dropped   // as the log has it
}

// State is how it stands with telling core.
type State struct {
	Queued  int       `json:"queued"` // entries
	Bytes   int64     `json:"queued_bytes"`
	Dropped Dropped   `json:"dropped"`
	Last    time.Time `json:"last,omitzero"`  // that core took something
	Since   time.Time `json:"since,omitzero"` // since when it takes nothing; zero: it does, or was not asked yet
	Err     error     `json:"-"`              // why
}

func (o *outbox) refuse() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused++
	o.kick()
}

func (o *outbox) kick() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) spare(e *entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unsaved != nil { // there is room for one
		o.refused++
	}
	o.unsaved = e
	o.kick()
}

func (o *outbox) dropped(q *queue.Queue) Dropped {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := q.Stats()
	return Dropped{Summaries: now.Dropped[queue.Summary], Results: now.Dropped[queue.Result], Refused: o.refused, Damaged: now.Damaged}
}

// fail says in the log what is wrong, but not in each poll.
func (o *outbox) fail(message string, err error, c *Checks) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.logged) > time.Minute {
		o.logged = time.Now()
		c.log.Error(message, "error", err.Error())
	}
}

// State is as it is now. It asks nobody.
func (c *Checks) State() State {
	dropped, now := c.outbox.dropped(c.queue), c.queue.Stats()
	c.outbox.mu.Lock()
	defer c.outbox.mu.Unlock()
	s := c.outbox.state
	s.Queued, s.Bytes, s.Dropped = now.Items, now.Bytes, dropped
	return s
}

// tellDropped says in the log what was dropped since it last said so.
func (c *Checks) tellDropped() {
	now := c.outbox.dropped(c.queue)
	c.outbox.mu.Lock()
	before := c.outbox.seen
	c.outbox.seen = now
	c.outbox.mu.Unlock()
	if now != before {
		c.log.Error("reports were dropped: there is no room for them until core takes them", "summaries", now.Summaries-before.Summaries,
			"results", now.Results-before.Results, "refused", now.Refused-before.Refused, "damaged", now.Damaged-before.Damaged)
	}
}

const (
	reportWithin = time.Minute
	firstRetry   = time.Second
	lastRetry    = 15 * time.Second
	// A report is read from the queue in one piece, unless it is larger than this.
	// Most have but a few entries.
	fewEntries  = 8
	mostEntries = 256
	mostBytes   = 16 << 20
)

// deliver tells core what is in the queue, oldest first, until ctx is over.
func (c *Checks) deliver(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		r, done, err := c.next()
		if err != nil {
			c.outbox.fail("the queue of reports cannot be read", err, c)
		}
		if r == nil {
			select {
			case <-ctx.Done():
			case <-c.queue.Arrived():
			case <-c.outbox.wake:
			case <-time.After(lastRetry): // if the disk was the reason
			}
			continue
		}
		err = c.tell(ctx, r)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			done()
			retry = firstRetry
		case errors.Is(err, session.ErrInvalid):
			c.log.Error("core will never take this report", "services", len(r.Services), "error", err.Error())
			c.outbox.refuse()
			done()
		default:
			pause(ctx, retry/2+rand.N(retry/2))
			retry = min(2*retry, lastRetry)
		}
	}
}

// next is what core is to be told next, and how to forget it then.
func (c *Checks) next() (*serviceradar.StatusReport, func(), error) {
	r := &serviceradar.StatusReport{PollerID: c.config.PollerID, Partition: c.config.partition(), SourceIP: c.sourceIP}
	entries, ids, err := c.oldest()
	if err != nil || len(entries) == 0 {
		return c.nextUnsaved(r, err)
	}
	r.Time = entries[0].time()
	for _, e := range entries {
		r.Services = append(r.Services, e.Services...)
	}
	return r, func() {
		if err := c.queue.Ack(ids...); err != nil {
			c.outbox.fail("what core has taken cannot be removed from the queue: it gets it again", err, c)
		}
	}, nil
}

// oldest are the entries of the oldest poll in the queue. No others are taken
// from it: what is taken is the last that is dropped.
func (c *Checks) oldest() (poll []entry, ids []uint64, err error) {
	c.outbox.writing.Lock()
	defer c.outbox.writing.Unlock()
	for most := fewEntries; ; most *= 2 {
		items, err := c.queue.Peek(most, mostBytes)
		if err != nil {
			return nil, nil, err
		}
		poll, ids = nil, nil
		for _, item := range items {
			var e entry
			if err := json.Unmarshal(item.Data, &e); err != nil { // the queue sees to it that it is as it was written
				c.outbox.refuse()
				return nil, nil, errors.Join(fmt.Errorf("entry %d is no report: %w", item.ID, err), c.queue.Ack(item.ID))
			}
			if len(poll) > 0 && e.Poll != poll[0].Poll {
				break
			}
			poll, ids = append(poll, e), append(ids, item.ID)
		}
		if len(ids) < len(items) {
			_, err = c.queue.Peek(len(ids), mostBytes)
		}
		if len(ids) < most || most >= mostEntries {
			return poll, ids, err
		}
	}
}

func (c *Checks) nextUnsaved(r *serviceradar.StatusReport, err error) (*serviceradar.StatusReport, func(), error) {
	c.outbox.mu.Lock()
	defer c.outbox.mu.Unlock()
	e := c.outbox.unsaved
	if e == nil {
		return nil, nil, err
	}
	r.Time, r.Services = e.time(), e.Services
	return r, func() {
		c.outbox.mu.Lock()
		defer c.outbox.mu.Unlock()
		if c.outbox.unsaved == e {
			c.outbox.unsaved = nil
		}
	}, err
}

// tell tells core, and notes how that went.
func (c *Checks) tell(ctx context.Context, r *serviceradar.StatusReport) error {
	short, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	err := c.core.Report(short, r)
	if ctx.Err() != nil {
		return err
	}
	c.outbox.mu.Lock()
	defer c.outbox.mu.Unlock()
	s := &c.outbox.state
	switch {
	case err == nil && !s.Since.IsZero():
		c.log.Info("core takes reports again", "away_seconds", time.Since(s.Since).Seconds(), "queued", c.queue.Stats().Items)
	case err != nil && s.Since.IsZero():
		c.log.Warn("core takes no reports: they are kept", "error", err.Error())
		s.Since = time.Now()
	}
	if s.Err = err; err == nil {
		s.Last, s.Since = time.Now(), time.Time{}
	}
	return err
}
