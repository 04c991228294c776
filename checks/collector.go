// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
)

// finding is what came of a check.
type finding struct {
	agent, check string
	order        int // of the check, among those of its agent
	at           time.Time
	service      serviceradar.ServiceStatus
	// One of these is called when it was written down for core, or could not be,
	// if something hangs on it.
	told, lost func()
}

// compareFindings is by agent and check; of one check the older comes first.
func compareFindings(x, y *finding) int {
	return cmp.Or(cmp.Compare(x.agent, y.agent), cmp.Compare(x.service.Source, y.service.Source), cmp.Compare(x.order, y.order), x.at.Compare(y.at))
}

// collector gathers findings, from agents that are asked at the same time, but
// each of them once.
type collector struct {
	mu       sync.Mutex
	findings []*finding
	asked    map[*agent]bool // who has not ended
	changed  chan struct{}
}

// begin says whether an agent may be asked: it is not being asked already.
func (w *collector) begin(a *agent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked == nil {
		w.asked, w.changed = map[*agent]bool{}, make(chan struct{}, 1)
	}
	if w.asked[a] {
		return false
	}
	w.asked[a] = true
	return true
}

func (w *collector) end(a *agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.asked, a); len(w.asked) == 0 {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

func (w *collector) add(f *finding) {
	f.at = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = append(w.findings, f)
}

func (w *collector) all() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked) == 0
}

// wait waits until nobody is asked any more, but not for too long.
func (w *collector) wait(ctx context.Context, most time.Duration) {
	late := time.NewTimer(most)
	defer late.Stop()
	for !w.all() {
		select {
		case <-w.changed:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// take is what there is, in order.
func (w *collector) take() []*finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.findings
	w.findings = nil
	slices.SortStableFunc(taken, compareFindings)
	return taken
}
