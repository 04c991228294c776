// SPDX-License-Identifier: Apache-2.0

// Package soak_test lets the real service run thousands of sessions, one after
// the other and at once, over mTLS, on targets that change all the time and
// for clients that behave as they like: each ends with a right profile or a
// right reason, and the service is afterwards as large as it was before.
//
// What `make test` runs is short; `make soak` is the long one, whose figures
// are in docs/benchmarks.md.
package soak_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

var (
	sessions = flag.Int("sessions", 200, "so many sessions")
	seed     = flag.Uint64("seed", 0, "of what is left to chance; 0: another one each time")
	visitors = flag.Int("visitors", 16, "so many clients ask at once")
	only     = flag.String("only", "", "only visits of this kind")
	lasts    = flag.Duration("lasts", 0, "end after this time with fewer sessions; 0: no end")
)

// soak is one run: what was asked for, and what came of it.
type soak struct {
	service *service
	always  targets // that live as long as the soak
	end     time.Time

	mu       sync.Mutex
	known    map[session.ID]bool       // sessions
	outcomes map[string]map[string]int // by kind of visit: how many requests ended how
	verified int                       // profiles that had enough samples to be judged by their hottest function
	wrong    []string
}

func TestSoak(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	began := time.Now()
	s := &soak{service: start(t), known: map[session.ID]bool{}, outcomes: map[string]map[string]int{}}
	s.always = startTargets(t)
	if *lasts > 0 {
		s.end = began.Add(*lasts)
	}
	all := make([]*visitor, *visitors)
	for i := range all {
		all[i] = s.visitor(t, uint64(i))
	}
	// The first part is to warm up: caches fill, threads are made.
	looks := 3
	if *sessions >= 2000 {
		looks = 11
	}
	var seen []*holdings
	for i := range looks {
		s.visit(t, all, *sessions*(i+1)/looks)
		seen = append(seen, s.service.rest(t, s.count()))
		t.Log(seen[i])
		if len(s.wrong) > 20 {
			break
		}
	}
	t.Logf("%d sessions in %v, %d profiles were judged by their hottest function; seed %d\n%s",
		s.count(), time.Since(began).Round(time.Second), s.verified, *seed, s.table())
	for _, w := range s.wrong {
		t.Error(w)
	}
	if wrong := grown(seen); len(wrong) > 0 {
		t.Error(strings.Join(wrong, "\n"))
	}
	// Where the machine left targets no time, one gets as much as it needs.
	for d := time.Second; s.verified == 0; d *= 2 {
		v, of := all[0], s.always.busy[0]
		if err := v.round(t.Context(), v.spec(of, d), of, noSamples); err != nil || d > time.Minute {
			t.Fatalf("no profile had enough samples to be judged: %v", err)
		}
	}
	s.service.forgets(t)
	s.service.complains(t)
	s.service.stops(t)
}

// visit lets all visitors ask until there were so many sessions.
func (s *soak) visit(t *testing.T, all []*visitor, until int) {
	var working sync.WaitGroup
	for _, v := range all {
		working.Go(func() {
			for s.count() < until && !s.over() && t.Context().Err() == nil {
				v.visit(t.Context())
			}
		})
	}
	working.Wait()
}

func (s *soak) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.known)
}

// over says that it is time to end.
func (s *soak) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.end.IsZero() && time.Now().After(s.end) || len(s.wrong) > 20
}

// saw notes a session.
func (s *soak) saw(id session.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[id] = true
}

// ended notes how a request of a visit ended.
func (s *soak) ended(visit, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcomes[visit] == nil {
		s.outcomes[visit] = map[string]int{}
	}
	s.outcomes[visit][how]++
}

func (s *soak) complain(visit string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf("%s: %v", visit, err))
}

// table says how all requests ended, as Markdown.
func (s *soak) table() string {
	var b strings.Builder
	b.WriteString("| visit | requests ended |\n|---|---|\n")
	for _, visit := range slices.Sorted(maps.Keys(s.outcomes)) {
		var ends []string
		for _, how := range slices.Sorted(maps.Keys(s.outcomes[visit])) {
			ends = append(ends, fmt.Sprintf("%d %s", s.outcomes[visit][how], how))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", visit, strings.Join(ends, ", "))
	}
	return b.String()
}

// visitor is a client with a connection of its own, who comes again and again.
type visitor struct {
	*soak
	t      *testing.T
	chance *rand.Rand
	there  session.Runner
	name   string // of the visit
}

func (s *soak) visitor(t *testing.T, i uint64) *visitor {
	return &visitor{soak: s, t: t, chance: rand.New(rand.NewPCG(*seed, i)), there: s.service.dial(t)}
}

// hangs is how long one visit may take: to see that it hangs, not how fast it is.
const hangs = 3 * time.Minute

// visit makes one, by chance.
func (v *visitor) visit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hangs)
	defer cancel()
	of := v.chance.IntN(shares)
	for _, k := range kinds {
		if of -= k.share; of < 0 && *only == "" || k.name == *only {
			v.name = k.name
			if err := k.visit(v, ctx); err != nil {
				v.complain(k.name, err)
			}
			return
		}
	}
}

// stops ends the service as an administrator does.
func (s *service) stops(t *testing.T) {
	s.signal(t, syscall.SIGTERM)
	select {
	case <-s.gone:
	case <-time.After(hangs):
		t.Fatal("the service does not end")
	}
	if code := s.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the service ended with %v", s.command.ProcessState)
	}
}
