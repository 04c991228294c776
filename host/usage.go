// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	// window is the least time over which CPU use is measured. The kernel tells
	// CPU time in steps of 10 ms, so this is good to 4 % of a CPU.
	window = 250 * time.Millisecond
	// justNow is for how long a reading stands for the beginning of a window.
	justNow = 3 * time.Second
)

// usage is how much CPU time the processes of this host use. Its zero value has
// read nothing yet. Who asks while another does is answered with the same.
type usage struct {
	once sync.Once
	turn chan struct{}                // holds a value while somebody reads; guards what follows
	last map[process.ID]time.Duration // CPU time by then
	at   time.Time                    // of last
	now  []used                       // what came of it; is never changed
	tidy *time.Timer
}

// used is a process with the CPUs that it used just now.
type used struct {
	process.Stat
	spent time.Duration // in the window
	cpu   float64
}

// measure yields all processes, the hottest first: of those that used as much,
// the one with the smaller PID.
func (u *usage) measure(ctx context.Context) ([]used, error) {
	u.once.Do(func() { u.turn = make(chan struct{}, 1) })
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if u.now != nil && time.Since(u.at) < window {
		return u.now, nil
	}
	u.now = nil
	if time.Since(u.at) >= justNow {
		if _, err := u.read(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(window - time.Since(u.at)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now, err := u.read(ctx)
	if err != nil {
		return nil, err
	}
	u.now = now
	u.forgetLater()
	return now, nil
}

// read reads the CPU time of all processes, and compares it with that of the
// reading before.
func (u *usage) read(ctx context.Context) ([]used, error) {
	all, err := stats(ctx)
	if err != nil {
		return nil, err
	}
	at := time.Now()
	elapsed := at.Sub(u.at)
	times := make(map[process.ID]time.Duration, len(all))
	now := make([]used, 0, len(all))
	for _, s := range all {
		times[s.ID] = s.CPUTime
		p := used{Stat: s, spent: max(0, s.CPUTime-u.last[s.ID])} // one that is new has used all of it since
		p.cpu = p.spent.Seconds() / elapsed.Seconds()
		now = append(now, p)
	}
	u.last, u.at = times, at
	slices.SortFunc(now, func(a, b used) int { return cmp.Or(cmp.Compare(b.spent, a.spent), cmp.Compare(a.PID, b.PID)) })
	return now, nil
}

// forgetLater gives the memory back when nobody asks any more: a host may have
// many processes.
func (u *usage) forgetLater() {
	if u.tidy != nil {
		u.tidy.Reset(justNow)
		return
	}
	u.tidy = time.AfterFunc(justNow, func() {
		u.turn <- struct{}{}
		defer func() { <-u.turn }()
		if time.Since(u.at) >= justNow {
			u.last, u.now = nil, nil
		}
	})
}

// stats are the processes that run. Those that end meanwhile are left out, and
// those that may not be looked at.
func stats(ctx context.Context) ([]process.Stat, error) {
	if !process.Mounted() {
		return nil, session.Unsupported("no_proc", "/proc is not mounted, so nothing is known of processes", "mount it (mount -t proc proc /proc)", nil)
	}
	pids, err := process.All()
	if err != nil {
		return nil, err
	}
	all := make([]process.Stat, 0, len(pids))
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := process.ReadStat(pid)
		switch {
		case err == nil && !s.Exited():
			all = append(all, s)
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		default:
			return nil, err
		}
	}
	return all, nil
}
