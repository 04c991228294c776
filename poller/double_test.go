// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/store/files"
	"github.com/carverauto/serviceradar-profiler/store/sqlite"
)

// double is a host that does what a test wants: its sessions take their time, it
// can be out of reach, lose answers, and be started again. It keeps count of
// what began on it, in all its lives.
type double struct {
	name string

	mu       sync.Mutex
	life     int
	down     bool
	lose     func(call string, done bool) bool // whether a call is lost, before or after it was done
	hang     func(call string, done bool) bool // whether a call hangs, before or after it was done
	refuse   *session.Error
	without  bool // knows no profiling
	sessions []*doubled
	began    map[string]int // by command
	now, top int            // sessions that run, and most of them at once
}

type doubled struct {
	session.Session
	until   time.Time
	changed chan struct{} // closed at the end
}

func newDouble(name string) *double {
	return &double{name: name, life: 1, began: map[string]int{}}
}

var errDown = &session.Error{Code: "unreachable", Kind: session.ErrUnavailable, Problem: "nobody answers", Remedy: "see to it"}

// call is each call to the host.
func (d *double) call(ctx context.Context, name string, do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	hangs := func(done bool) bool {
		if d.hang == nil || !d.hang(name, done) {
			return false
		}
		d.mu.Unlock()
		<-ctx.Done()
		d.mu.Lock()
		return true
	}
	if hangs(false) {
		return ctx.Err()
	}
	if d.without {
		return &session.Error{Code: "not_supported", Kind: errors.ErrUnsupported, Problem: "unknown call"}
	}
	if d.down || d.lose != nil && d.lose(name, false) {
		return errDown
	}
	d.pass()
	err := do()
	if hangs(true) {
		return ctx.Err()
	}
	if d.lose != nil && d.lose(name, true) {
		return errDown
	}
	return err
}

// pass lets sessions end whose time has come.
func (d *double) pass() {
	for _, s := range d.sessions {
		if s.State == session.StateRunning {
			s.Progress.Elapsed = min(time.Since(s.Started), s.Spec.Duration)
			s.Progress.Samples = uint64(s.Progress.Elapsed / (10 * time.Millisecond))
			if !time.Now().Before(s.until) {
				d.finish(s, session.StateSucceeded, nil)
			}
		}
	}
}

func (d *double) finish(s *doubled, to session.State, why *session.Error) {
	d.now--
	s.State, s.Err, s.Ended, s.EndedBy = to, why, time.Now(), profile.EndedDuration
	s.Progress.Samples = max(1, s.Progress.Samples)
	close(s.changed)
}

func (d *double) restart() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.life++
	d.now = 0
	d.sessions = nil
}

func (d *double) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *double) instance() string { return fmt.Sprintf("%s in life %d", d.name, d.life) }

func (d *double) Start(ctx context.Context, spec session.Spec) (now session.Session, err error) {
	err = d.call(ctx, "Start", func() error {
		if spec.Instance != d.instance() {
			return &session.Error{Code: "other_instance", Kind: session.ErrUnavailable, Problem: "another life"}
		}
		for _, s := range d.sessions {
			if s.Spec.RequestID == spec.RequestID {
				now = s.Session
				return nil
			}
		}
		if d.refuse != nil {
			return d.refuse
		}
		s := &doubled{Session: session.Session{ID: session.NewID(), Spec: spec, State: session.StateRunning, Shared: 1, Created: time.Now(), Started: time.Now(),
			Targets: []profile.Target{{PID: 1, Name: "one"}}}, changed: make(chan struct{}), until: time.Now().Add(spec.Duration)}
		d.sessions = append(d.sessions, s)
		d.began[spec.RequestID]++
		d.now++
		d.top = max(d.top, d.now)
		now = s.Session
		return nil
	})
	return now, err
}

func (d *double) find(id session.ID) *doubled {
	for _, s := range d.sessions {
		if s.ID == id {
			return s
		}
	}
	return nil
}

func (d *double) Get(ctx context.Context, id session.ID) (now session.Session, err error) {
	err = d.call(ctx, "Get", func() error {
		s := d.find(id)
		if s == nil {
			return session.NotFound(id)
		}
		now = s.Session
		return nil
	})
	return now, err
}

func (d *double) List(ctx context.Context, f session.Filter) (all []session.Session, err error) {
	err = d.call(ctx, "List", func() error {
		for _, s := range d.sessions {
			if f.Chooses(&s.Session) {
				all = append(all, s.Session)
			}
		}
		return nil
	})
	return all, err
}

func (d *double) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		for {
			now, err := d.Get(ctx, id)
			if !yield(now, err) || err != nil || now.State.Final() {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// made is the profile that a host makes: always the same for a session.
func (d *double) made(s *doubled) []byte {
	var out bytes.Buffer
	p := &profile.Profile{Meta: profile.Metadata{Host: d.name, FrequencyHz: 99, Counts: profile.Counts{Samples: 1}, Ended: s.EndedBy, Start: time.Unix(1_700_000_000, 0)}}
	p.Mappings = []profile.Mapping{{Kind: profile.MappingObject, Path: "/bin/" + d.name, Start: 0x1000, Limit: 0x2000}}
	p.Addresses = []profile.Address{{Frames: []profile.Frame{{Name: "work_of_" + d.name}}}}
	p.Samples = []profile.Sample{{Addresses: []profile.AddressID{0}, Count: 1, Thread: profile.Thread{PID: 1, TID: 1}}}
	if err := pprof.Write(&out, p); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func (d *double) Fetch(ctx context.Context, id session.ID, want session.Want) (c *session.Content, err error) {
	err = d.call(ctx, "Fetch", func() error {
		s := d.find(id)
		if s == nil {
			return session.NotFound(id)
		}
		b := d.made(s)
		sum := sha256.Sum256(b)
		c = &session.Content{Session: s.Session, Format: session.FormatPprof, Size: int64(len(b)), Offset: want.Offset, Digest: hex.EncodeToString(sum[:]), Body: io.NopCloser(bytes.NewReader(b[want.Offset:]))}
		return nil
	})
	return c, err
}

func (d *double) Cancel(ctx context.Context, id session.ID) (now session.Session, err error) {
	err = d.call(ctx, "Cancel", func() error {
		s := d.find(id)
		if s == nil {
			return session.NotFound(id)
		}
		if !s.State.Final() {
			d.finish(s, session.StateCanceled, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "canceled at the host"})
		}
		now = s.Session
		return nil
	})
	return now, err
}

func (d *double) Hosts(ctx context.Context, _ session.Hosts) (all []session.Host, err error) {
	err = d.call(ctx, "Hosts", func() error {
		all = []session.Host{{Name: d.name, State: session.HostReady, Instance: d.instance(), Running: d.now}}
		return nil
	})
	return all, err
}

func (d *double) Processes(ctx context.Context, _ string, _ session.Selector, _ int) (all []session.Process, err error) {
	err = d.call(ctx, "Processes", func() error { all = []session.Process{{PID: 1, Name: "one"}}; return nil })
	return all, err
}

func (d *double) Match(ctx context.Context, _ session.Spec) (all []session.Match, err error) {
	err = d.call(ctx, "Match", func() error {
		all = []session.Match{{Host: d.name, PIDs: []int{1}}}
		if d.refuse != nil {
			all[0] = session.Match{Host: d.name, Err: d.refuse}
		}
		return nil
	})
	return all, err
}

var _ session.Fleet = (*double)(nil)

// fleet is a poller over doubles, with a real store, that can be started again.
type fleet struct {
	testing.TB
	*Poller
	dir    string
	limits Limits
	hosts  []*double
	store  *sqlite.Store
	wrap   func(store.Store) store.Store
	as     func(*double) session.Fleet
}

func newFleet(t testing.TB, n int, change func(*Limits)) *fleet {
	f := &fleet{TB: t, dir: t.TempDir(), limits: DefaultLimits()}
	for i := range n {
		f.hosts = append(f.hosts, newDouble(fmt.Sprintf("web-%02d", i)))
	}
	if change != nil {
		change(&f.limits)
	}
	f.open()
	return f
}

func (f *fleet) open() {
	f.Helper()
	var err error
	if f.store, err = sqlite.Open(context.Background(), filepath.Join(f.dir, "sessions.db")); err != nil {
		f.Fatal(err)
	}
	lie, err := files.Open(filepath.Join(f.dir, "profiles"), files.Limits{MaxBytes: f.limits.MaxResultBytes})
	if err != nil {
		f.Fatal(err)
	}
	o := Options{Store: f.store, Files: lie, Limits: f.limits, Spool: f.dir}
	if f.wrap != nil {
		o.Store = f.wrap(f.store)
	}
	for i, d := range f.hosts {
		var as session.Fleet = d
		if f.as != nil {
			as = f.as(d)
		}
		o.Hosts = append(o.Hosts, HostConfig{Name: d.name, Address: d.name + ":1", Labels: map[string]string{"half": fmt.Sprint(i % 2)}, Fleet: as})
	}
	if f.Poller, err = New(o); err != nil {
		f.Fatal(err)
	}
}

// crash ends the poller as a crash would: it writes nothing at its end. What it
// was told by the store to be written, is.
func (f *fleet) crash() {
	f.Helper()
	if err := f.Close(context.Background()); err != nil {
		f.Fatal(err)
	}
	if err := f.store.Close(); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) start(spec session.Spec) session.Session {
	f.Helper()
	now, err := f.Start(f.Context(), spec)
	if err != nil {
		f.Fatalf("start: %v", err)
	}
	return now
}

func (f *fleet) ended(id session.ID) session.Session {
	f.Helper()
	return f.until(id, func(s session.Session) bool { return s.State.Final() })
}

func (f *fleet) until(id session.ID, holds func(session.Session) bool) session.Session {
	f.Helper()
	var last session.Session
	for now, err := range f.Watch(f.Context(), id) {
		if err != nil {
			f.Fatalf("watch: %v", err)
		}
		if last = now; holds(now) {
			return now
		}
	}
	f.Fatalf("what was waited for never came: %+v", last)
	return last
}

// once makes sure that nothing began twice.
func (f *fleet) once() {
	f.Helper()
	for _, d := range f.hosts {
		d.set(func() {
			for command, n := range d.began {
				if n != 1 {
					f.Errorf("%s began %d times on %s", command, n, d.name)
				}
			}
		})
	}
}

func spec(d time.Duration) session.Spec {
	return session.Spec{Select: session.Selector{Name: "one"}, Duration: d, Frequency: 99}
}

func everywhere(d time.Duration) session.Spec {
	s := spec(d)
	s.Hosts.All = true
	return s
}

// states counts the parts of a session by state.
func states(s session.Session) map[session.State]int {
	count := map[session.State]int{}
	for _, h := range s.Hosts {
		count[h.State]++
	}
	return count
}

func codeOf(err error) string {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func wants(t testing.TB, err error, kind error, code string) {
	t.Helper()
	var e *session.Error
	if !errors.Is(err, kind) || !errors.As(err, &e) || e.Code != code || e.Problem == "" || e.Remedy == "" {
		t.Errorf("%v (%s), want %s", err, codeOf(err), code)
	}
}

var errNoProcess = &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: "there is no process", Remedy: "look again"}
