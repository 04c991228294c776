// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Sessions runs sessions on this host for whoever asks: it is the
// [session.Runner] that all others lead to. Its own part is what a Recorder
// does not know: who shares a session, whose turn it is, who watches, and for
// how long a profile is kept.
//
// One lock guards all of it. It is held for moments only, never while a
// session is opened, sampled or encoded, nor while somebody is told something.
type Sessions struct {
	// Log has a line for each session that begins or ends; nil keeps silent.
	// Set it before the first session.
	Log *slog.Logger
	// Changed, if it is not nil, is told when a session begins to sample and
	// when it has ended. It is called under the lock: it must be quick, and ask
	// nothing here. Set it before the first session.
	Changed func(Change)
	// Resolve, if it is not nil, finds the processes that a selector means: of
	// sessions that had to wait for their turn, by then. Set it before the first
	// session.
	Resolve func(context.Context, session.Selector) ([]int, error)

	recorder *Recorder
	limits   Limits
	host     string
	spool    spool

	mu        sync.Mutex
	notes     []func() // what unlock does when the lock is free: write to the log, which may be slow
	runs      map[session.ID]*run
	requests  map[string]*run // by RequestID
	created   uint64          // sessions so far
	busy      int             // places taken
	queue     []*run          // who waits for a place, the next one first
	ended     []*run          // whose results are kept, the oldest first
	extra     []*content      // kept, but only for convenience; the oldest first
	bytes     int64           // of all contents
	made      uint64          // contents so far
	expiry    timer           // for the first of ended
	troubled  error           // why this host cannot run sessions, as far as is known
	looked    time.Time       // when that was found out
	stopping  bool
	handedOut chan struct{} // has room for one: a profile was fetched whole

	decoding chan struct{}  // holds a value while a profile is read again
	all      sync.WaitGroup // goroutines
}

var _ session.Runner = (*Sessions)(nil)

// NewSessions makes a runner that records with r.
func NewSessions(r *Recorder, limits Limits) (*Sessions, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	s := &Sessions{recorder: r, limits: limits, spool: spool{dir: limits.SpoolDir},
		runs: map[session.ID]*run{}, requests: map[string]*run{}, handedOut: make(chan struct{}, 1), decoding: make(chan struct{}, 1)}
	s.host, _ = os.Hostname() // no name is no reason to fail
	return s, nil
}

// unlock ends what began with s.mu.Lock, where a session may have changed.
func (s *Sessions) unlock() {
	notes := s.notes
	s.notes = nil
	s.mu.Unlock()
	for _, note := range notes {
		note()
	}
}

// Change is what became of a session.
type Change struct {
	Session session.Session
	Turn    time.Time         // when it had its place; zero if it never had one
	Meta    *profile.Metadata // of its profile, at the end; nil if it has none
}

// run is one session with all that belongs to it. Sessions.mu guards it.
type run struct {
	now       session.Session // as it is; its State is changed by move alone
	number    uint64          // in the order of creation
	targets   []process.ID    // who they were when they were asked for
	guards    []session.Guard // of the requests that it serves; nil for one that has none
	requests  []string        // the RequestIDs that led here
	anonymous bool            // a request without one did
	waited    bool            // for its turn

	settled chan struct{} // closed when Start has its answer
	refused error         // that answer, if it is an error: then there is no session
	placed  bool          // it takes up a place
	turn    time.Time     // since when it does, or did
	shown   bool          // it waits, or has begun: others may know of it
	done    chan struct{} // closed when its state is final

	ctx       context.Context // sampling ends with it
	cancel    context.CancelFunc
	stopped   *session.Error    // who canceled it; nil: nobody
	recording *Recording        // while it is running
	meta      *profile.Metadata // of what it sampled, once that is known

	watchers   map[*watcher]struct{}
	unattended timer
	waiting    timer

	making    chan struct{} // holds a value while somebody makes a content of it
	contents  []*content
	delivered bool // its profile was fetched whole
	forgotten bool
}

// view is the session as others see it. What its slices hold is never changed.
func (r *run) view() session.Session { return r.now }

// settle answers those who wait in Start, once.
func (r *run) settle(err error) {
	if r.shown {
		return
	}
	r.refused = err
	r.shown = err == nil
	close(r.settled)
}

// Start begins a session, or joins one; see [session.Runner].
//
// That ctx ends while the session is being opened does not stop it: others may
// share it by then, and who asks again finds it.
func (s *Sessions) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := spec.Validate(); err != nil {
		return session.Session{}, err
	}
	if len(spec.PIDs) == 0 {
		return session.Session{}, session.Invalid("no_target", "there is no process to profile: "+spec.Select.String()+" was not looked for", "ask through package host, or name processes by their PIDs")
	}
	limits := s.Limits()
	if err := limits.check(&spec); err != nil {
		return session.Session{}, err
	}
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	spec.PIDs = slices.Clone(spec.PIDs)
	targets, missing := identify(spec) // outside the lock
	r, err := s.admit(spec, session.GuardOf(ctx), targets, missing)
	if err != nil {
		return session.Session{}, err
	}
	select {
	case <-r.settled:
	case <-ctx.Done():
		return session.Session{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.view(), r.refused
}

// identify makes sure that each PID is a process that can be profiled, and
// remembers which one: by the session's turn a PID may be another's.
func identify(spec session.Spec) ([]process.ID, error) {
	spec.Children = false
	ts, err := findTargets(&spec)
	if err != nil {
		return nil, err
	}
	ids := make([]process.ID, len(ts))
	for i, t := range ts {
		ids[i] = t.id
		t.files.Close()
	}
	slices.SortFunc(ids, func(a, b process.ID) int { return cmp.Compare(a.PID, b.PID) })
	return ids, nil
}

// Check says why processes cannot be profiled, as Start would: the first of
// them that cannot.
func (s *Sessions) Check(pids []int) error {
	_, err := identify(session.Spec{PIDs: pids})
	return err
}

// admit finds the session that a request leads to, or makes it.
func (s *Sessions) admit(spec session.Spec, guard session.Guard, targets []process.ID, missing error) (*run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.requests[spec.RequestID]; r != nil && spec.RequestID != "" {
		if !r.now.Spec.SameRequest(&spec) {
			return nil, session.Invalid("request_id_reused", fmt.Sprintf("the request ID %q was used for another session (%s)", spec.RequestID, r.now.ID),
				"make up a new one for each request")
		}
		return r, nil
	}
	if s.stopping {
		return nil, serviceStopping()
	}
	if r := s.identical(&spec, targets, missing); r != nil {
		return r, s.attach(r, &spec, guard)
	}
	if missing != nil {
		return nil, missing
	}
	if !s.free() && len(s.queue) >= s.limits.MaxQueuedSessions {
		return nil, s.limits.busy(s.nextFree())
	}
	r := s.create(spec, targets)
	r.guards = []session.Guard{guard}
	if s.free() {
		s.begin(r)
	} else {
		s.enqueue(r)
	}
	s.attend(r, attendedFirst)
	return r, nil
}

// repeatWithin is how long after a session's start a request for the same,
// without a RequestID, is taken for a repetition by a client that missed the
// answer. The clients of ServiceRadar try three times, a second or two apart.
const repeatWithin = 10 * time.Second

// identical finds a session that does what is asked for: one that has not
// ended, or one whose request this one repeats.
func (s *Sessions) identical(spec *session.Spec, targets []process.ID, missing error) *run {
	for _, r := range s.runs {
		repeated := spec.RequestID == "" && r.anonymous && r.now.State != session.StateCanceled && time.Since(cmp.Or(r.now.Started, r.now.Created)) < repeatWithin
		if r.now.State.Final() && !repeated || r.stopped != nil || !r.now.Spec.Same(spec) {
			continue
		}
		// The same PID is not always the same process. One that is gone by now
		// was that of the session which is about to notice.
		if errors.Is(missing, fs.ErrNotExist) || missing == nil && slices.Equal(r.targets, targets) {
			return r
		}
	}
	return nil
}

// maxShared bounds what is remembered of those who share a session.
const maxShared = 10_000

// attach lets a session serve one more request.
func (s *Sessions) attach(r *run, spec *session.Spec, guard session.Guard) error {
	if r.now.Shared >= maxShared {
		return &session.Error{Code: "shared_limit", Kind: session.ErrBusy, Problem: fmt.Sprintf("%d requests share session %s already", r.now.Shared, r.now.ID), Remedy: "watch or fetch that session"}
	}
	s.remember(r, spec)
	if r.now.State.Final() {
		return nil // it is the same request once more
	}
	r.now.Shared++
	r.guards = append(r.guards, guard)
	// The session goes on for the one who asks for more.
	if r.now.Spec.MaxWait != 0 && spec.MaxWait == 0 {
		r.now.Spec.MaxWait = 0
	} else if r.now.Spec.MaxWait != 0 {
		r.now.Spec.MaxWait = max(r.now.Spec.MaxWait, time.Since(r.now.Created)+spec.MaxWait)
	}
	if r.now.Position > 0 {
		s.bound(r)
	}
	if r.now.Spec.Attended = r.now.Spec.Attended && spec.Attended; len(r.watchers) == 0 {
		s.attend(r, attendedFirst)
	}
	r.tell()
	return nil
}

func (s *Sessions) remember(r *run, spec *session.Spec) {
	if spec.RequestID == "" {
		r.anonymous = true
		return
	}
	r.requests = append(r.requests, spec.RequestID)
	s.requests[spec.RequestID] = r
}

func (s *Sessions) create(spec session.Spec, targets []process.ID) *run {
	s.created++
	r := &run{
		now: session.Session{ID: session.NewID(), Spec: spec, Host: s.host, State: session.StatePending, Shared: 1, Created: time.Now()}, number: s.created, targets: targets,
		settled: make(chan struct{}), done: make(chan struct{}), watchers: map[*watcher]struct{}{}, making: make(chan struct{}, 1),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	s.runs[r.now.ID] = r
	s.remember(r, &spec)
	return r
}

// Requested is the session that a request ID led to, also one that is about to
// begin.
func (s *Sessions) Requested(requestID string) (session.Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.requests[requestID]; r != nil && requestID != "" {
		return r.view(), true
	}
	return session.Session{}, false
}

func (s *Sessions) find(id session.ID) (*run, error) {
	if r := s.runs[id]; r != nil && r.shown {
		return r, nil
	}
	return nil, session.NotFound(id)
}

// Get tells of a session.
func (s *Sessions) Get(ctx context.Context, id session.ID) (session.Session, error) {
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(id)
	if err != nil {
		return session.Session{}, err
	}
	return r.view(), nil
}

// List tells of the chosen sessions, oldest first.
func (s *Sessions) List(ctx context.Context, filter session.Filter) ([]session.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var chosen []*run
	for _, r := range s.runs {
		if r.shown && filter.Chooses(&r.now) {
			chosen = append(chosen, r)
		}
	}
	slices.SortFunc(chosen, func(a, b *run) int { return cmp.Compare(a.number, b.number) })
	all := make([]session.Session, len(chosen))
	for i, r := range chosen {
		all[i] = r.view()
	}
	return all, nil
}
