// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/sampler"
)

// spare is a sampler that nobody uses yet. To load its programs takes some 30
// ms, most of which the kernel needs to verify them: too long for somebody who
// waits for a first sample. The price is some 2 MB in the kernel.
type spare struct {
	mu      sync.Mutex
	keep    bool
	tables  *sampler.TableStore
	ready   *sampler.BPF
	waiting *time.Timer // until there is time to make one
	made    sync.WaitGroup
}

// What a spare has room for. More makes a session load its own sampler, or in
// the case of tables another walk, while the first samples are taken already.
const (
	spareTargets = 8
	spareRows    = 120_000  // of a program with a few libraries
	spareCode    = 32 << 20 // bytes
)

// spareDelay is how long the new session has the CPUs for itself: in the
// meantime it reads the target's mappings and makes its first tables.
const spareDelay = 30 * time.Millisecond

// KeepSpare prepares a session before it is asked for, from now on until Close:
// it costs memory, but sampling is on within a millisecond. The error says why
// sessions cannot be had; the warning, what profiles lack.
func (r *Recorder) KeepSpare() (warning string, err error) {
	hurry()
	s := &r.spare
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = true
	if s.ready != nil {
		return "", nil
	}
	s.ready, warning, err = newSpare(s.tables)
	r.idle.again() // what the start took
	return warning, err
}

// newSpare is nil, without error, where only a sampler can be had that needs no
// preparation.
func newSpare(tables *sampler.TableStore) (spare *sampler.BPF, warning string, err error) {
	made, err := sampler.Open(sampler.Options{Targets: spareTargets, Tables: tables})
	if err != nil {
		return nil, "", err
	}
	s, ok := made.(*sampler.BPF)
	if !ok {
		return nil, made.About().Warning, made.Close()
	}
	_ = s.PrepareTables(spareRows, spareCode) // a session tries again, and says why it has none
	return s, "", nil
}

// take hands out a sampler: the spare, or one that is made for it.
func (s *spare) take(o sampler.Options) (sampler.Sampler, error) {
	s.mu.Lock()
	ready := s.ready
	if ready != nil && ready.Suffices(o) {
		s.ready = nil
		s.mu.Unlock()
		return ready, nil
	}
	s.mu.Unlock()
	return sampler.Open(o)
}

// another has a spare made, soon, or the one that there is prepared again if it
// does not see the tables of all sessions before it. That this cannot be done is
// found out, and said, by the next session, which makes its own.
func (s *spare) another() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keep || s.waiting != nil || s.ready != nil && s.ready.Current() {
		return
	}
	s.made.Add(1)
	s.waiting = time.AfterFunc(spareDelay, func() {
		defer s.made.Done()
		if s.prepare() {
			s.another() // if there came tables meanwhile
		}
	})
}

// prepare makes a spare, or prepares the one that there is, and reports whether
// that went well.
func (s *spare) prepare() bool {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready != nil { // a session may take it meanwhile, and waits for it with its tables alone
		err := ready.PrepareTables(spareRows, spareCode)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waiting = nil
		return err == nil
	}
	made, _, err := newSpare(s.tables)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = nil
	switch {
	case err != nil || made == nil:
		return false
	case !s.keep:
		made.Close() //nolint:errcheck // of descriptors that are ours
		return false
	}
	s.ready = made
	return true
}

// Close lets go of what is kept for sessions to come. Those that go on are not
// concerned.
func (r *Recorder) Close() {
	r.idle.close()
	s := &r.spare
	s.mu.Lock()
	s.keep = false
	if s.waiting != nil && s.waiting.Stop() {
		s.waiting = nil
		s.made.Done()
	}
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	if ready != nil {
		ready.Close() //nolint:errcheck // of descriptors that are ours
	}
	s.made.Wait()
	r.tidy.close()
	r.kernel.Close()
}
