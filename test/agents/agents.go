// SPDX-License-Identifier: Apache-2.0

// Package agents is any number of hosts with an agent each, for tests and
// benchmarks of pollers: one real server over mTLS, which is another host at
// each address at which it is called. All of 127.0.0.0/8 is this machine, so
// one listener has ten thousand of them.
//
// What is made up is what happens behind the agents: sessions that sample
// nothing, run for as long as they are asked to, and have one small profile.
package agents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Options are what may be unusual about hosts.
type Options struct {
	Skew   func() time.Duration // how far their clocks are ahead just now; nil: not at all
	Stacks int                  // in their profile, beside one: ten thousand are about half a megabyte
}

// Hosts are all of them. It is safe for use by several goroutines.
type Hosts struct {
	skew     func() time.Duration
	instance string // of all their profilers
	pprof    []byte
	digest   string

	mu       sync.Mutex
	sessions map[session.ID]*run
	requests map[string]*run // by host and request ID
	calls    int             // of Hosts: heartbeats
	fetches  []int64         // where each fetch began
}

// run is a session; nobody else touches it but under the lock.
type run struct {
	session session.Session // as the host's clock has it
	began   time.Time
	done    chan struct{} // closed when it was canceled
}

var _ session.Fleet = (*Hosts)(nil)

// New makes the hosts. Each profile is the same one.
func New(o Options) (*Hosts, error) {
	h := &Hosts{skew: o.Skew, instance: string(session.NewID()), sessions: map[session.ID]*run{}, requests: map[string]*run{}}
	if h.skew == nil {
		h.skew = func() time.Duration { return 0 }
	}
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Path: "/usr/bin/simulated", Start: 0x1000, Limit: 1 << 40})
	stack := []profile.AddressID{b.Address(0x1100, m, false), b.Address(0x1200, m, true)}
	thread := profile.Thread{PID: 1, TID: 1, Comm: "simulated"}
	b.Add(thread, stack, false, 99)
	random := rand.New(rand.NewPCG(1, 2))
	for range o.Stacks {
		far := b.Address(profile.Addr(0x2000+random.Uint64N(1<<39)), m, true)
		b.Add(thread, []profile.AddressID{stack[0], far}, false, 1+random.Uint64N(1<<30))
	}
	p := b.Profile()
	p.Meta = profile.Metadata{Tool: "srprof", Host: "simulated", Event: "cpu-clock", FrequencyHz: 99, CPUs: 1, Targets: []profile.Target{{PID: 1, Name: "simulated"}}}
	p.Count()
	var text bytes.Buffer
	if err := pprof.Write(&text, p); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text.Bytes())
	h.pprof, h.digest = text.Bytes(), hex.EncodeToString(sum[:])
	return h, nil
}

// Serve serves them until the listener is closed.
func (h *Hosts) Serve(l net.Listener, creds credentials.TransportCredentials) error {
	log := slog.New(slog.DiscardHandler)
	s := grpc.NewServer(append(remote.ServerOptions(log), grpc.Creds(creds))...)
	remote.NewServer(h, 0).Register(s)
	serviceradar.RegisterServiceRadar(s, h, serviceradar.About{Host: "simulated", Version: "simulated",
		Limits: func() remote.Limits { return remote.Limits{MaxConcurrentSessions: 10} },
		Health: func() remote.Health { return remote.Health{Healthy: true} }})
	return s.Serve(l)
}

// Beats is how often hosts were asked how they are, so far, all together, and
// Sessions how many sessions there were.
func (h *Hosts) Beats() (beats, sessions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls, len(h.sessions)
}

// Fetches are the places, in the profile, at which fetches began so far.
func (h *Hosts) Fetches() []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.fetches)
}

// clock is what the hosts' clocks show.
func (h *Hosts) clock() time.Time { return time.Now().Add(h.skew()) }

// called is the address at which a call came in: which host is meant.
func called(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.LocalAddr.String())
	if err != nil {
		return p.LocalAddr.String()
	}
	return host
}

// Hosts is of session.Fleet, as all the others.
func (h *Hosts) Hosts(ctx context.Context, _ session.Hosts) ([]session.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	return []session.Host{{Name: called(ctx), State: session.HostReady, Version: "simulated", Instance: h.instance}}, nil
}

func (h *Hosts) Processes(context.Context, string, session.Selector, int) ([]session.Process, error) {
	return []session.Process{{PID: 1, Name: "simulated", Command: "/usr/bin/simulated", User: "root", CPU: 1, Threads: 1}}, nil
}

func (h *Hosts) Match(ctx context.Context, _ session.Spec) ([]session.Match, error) {
	return []session.Match{{Host: called(ctx), PIDs: []int{1}}}, nil
}

func (h *Hosts) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := spec.Validate(); err != nil {
		return session.Session{}, err
	}
	host := called(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.requests[host+" "+spec.RequestID]; known != nil && spec.RequestID != "" {
		return h.now(known), nil
	}
	if len(spec.PIDs) == 0 {
		spec.PIDs = []int{1}
	}
	now := h.clock()
	r := &run{done: make(chan struct{}), began: time.Now(), session: session.Session{
		ID: session.NewID(), Spec: spec, Host: host, State: session.StateRunning, Shared: 1, Created: now, Started: now,
		Targets: []profile.Target{{PID: spec.PIDs[0], Name: "simulated", Command: "/usr/bin/simulated"}},
	}}
	h.sessions[r.session.ID] = r
	if spec.RequestID != "" {
		h.requests[host+" "+spec.RequestID] = r
	}
	return h.now(r), nil
}

// now is the session at this moment.
func (h *Hosts) now(r *run) session.Session {
	s := r.session
	if s.State != session.StateRunning {
		return s
	}
	s.Progress.Elapsed = min(time.Since(r.began), s.Spec.Duration)
	s.Progress.Samples = uint64(s.Progress.Elapsed.Seconds() * float64(s.Spec.Frequency))
	if s.Progress.Elapsed == s.Spec.Duration {
		s.State, s.EndedBy, s.Ended = session.StateSucceeded, profile.EndedDuration, h.clock()
		s.Progress.Samples = max(1, s.Progress.Samples)
		s.Expires = s.Ended.Add(15 * time.Minute)
		r.session = s
	}
	return s
}

func (h *Hosts) find(ctx context.Context, id session.ID) (*run, session.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.sessions[id]
	if r == nil || r.session.Host != called(ctx) {
		return nil, session.Session{}, session.NotFound(id)
	}
	return r, h.now(r), nil
}

func (h *Hosts) Get(ctx context.Context, id session.ID) (session.Session, error) {
	_, s, err := h.find(ctx, id)
	return s, err
}

func (h *Hosts) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	host := called(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []session.Session
	for _, r := range h.sessions {
		if s := h.now(r); s.Host == host && f.Chooses(&s) {
			all = append(all, s)
		}
	}
	return all, nil
}

func (h *Hosts) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		for {
			r, s, err := h.find(ctx, id)
			if !yield(s, err) || err != nil || s.State.Final() {
				return
			}
			select {
			case <-ctx.Done():
				yield(session.Session{}, ctx.Err())
				return
			case <-r.done:
			case <-time.After(min(time.Second, time.Until(r.began.Add(s.Spec.Duration)))):
			}
		}
	}
}

func (h *Hosts) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	_, s, err := h.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if want.Format != "" && want.Format != session.FormatPprof {
		return nil, session.Invalid("unknown_format", fmt.Sprintf("%q is not made here", want.Format), "ask for pprof")
	}
	from := int64(0)
	if want.Digest == h.digest {
		from = min(want.Offset, int64(len(h.pprof)))
	}
	h.mu.Lock()
	h.fetches = append(h.fetches, from)
	h.mu.Unlock()
	return &session.Content{Session: s, Format: session.FormatPprof, Size: int64(len(h.pprof)), Offset: from, Digest: h.digest,
		Body: io.NopCloser(bytes.NewReader(h.pprof[from:]))}, nil
}

func (h *Hosts) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	r, s, err := h.find(ctx, id)
	if err != nil || s.State.Final() {
		return s, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.session.State, r.session.Ended = session.StateCanceled, h.clock()
	r.session.Err = &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "the session was canceled"}
	close(r.done)
	return r.session, nil
}
