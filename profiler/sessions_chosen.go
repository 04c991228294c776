// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"io/fs"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// meant is what a session is to sample, now that its turn has come. Of one that
// had to wait, a selector is resolved again: a service may have been started
// anew meanwhile. But the hottest process is the one that was when it was asked
// for. Whether those who asked may have what is meant by now, is asked of their
// guards before the first sample.
func (s *Sessions) meant(r *run) (session.Spec, []process.ID, error) {
	s.mu.Lock()
	spec, targets, waited := r.now.Spec, r.targets, r.waited
	s.mu.Unlock()
	if spec.Select.Empty() {
		return spec, targets, nil
	}
	if !waited || !spec.Again || spec.Select.Hottest || s.Resolve == nil {
		if spec.PIDs = stillThere(targets); len(spec.PIDs) == 0 {
			return spec, nil, exitedBefore(targets[0])
		}
		return spec, targets, nil
	}
	pids, err := s.Resolve(r.ctx, spec.Select)
	if err != nil {
		return spec, nil, err
	}
	spec.PIDs = pids
	if targets, err = identify(spec); err != nil {
		return spec, nil, err
	}
	spec.PIDs = stillThere(targets)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.now.Spec.PIDs, r.targets = spec.PIDs, targets
	return spec, targets, nil
}

// stillThere are those of the processes that a selector chose which are the
// same by now.
func stillThere(chosen []process.ID) (pids []int) {
	for _, id := range chosen {
		if id.Running() {
			pids = append(pids, id.PID)
		}
	}
	return pids
}

func exitedBefore(id process.ID) error {
	return &session.Error{Code: "process_exited", Kind: fs.ErrNotExist,
		Problem: fmt.Sprintf("process %d exited before its session began", id.PID), Remedy: "ps -e lists the running ones; one with the same PID is another process"}
}
