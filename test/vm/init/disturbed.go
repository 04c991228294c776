// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// disturbance is what happens to the machine during a recording.
type disturbance struct {
	samples atomic.Uint64 // so far
	ended   chan struct{} // when the recording has
}

// hangs is how long something may take: to see that it never comes, not how
// fast it is.
const hangs = 5 * time.Minute

// more waits for so many samples more.
func (d *disturbance) more(n uint64) error {
	from := d.samples.Load()
	for end := time.Now().Add(hangs); d.samples.Load() < from+n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d samples are followed by %d more, want %d", from, d.samples.Load()-from, n)
		}
	}
	return nil
}

// disturbed records a busy program for some time, or until what happens
// meanwhile has happened, if that is sooner.
func disturbed(lasts time.Duration, happens func(*disturbance) error) (*profile.Profile, error) {
	// Two threads that work, so that the first CPU always has one: the other one
	// is not sampled any more when it comes back (docs/limits.md).
	busy, err := programs.Launch(exec.Command("/bin/threads", "4"), "ready")
	if err != nil {
		return nil, err
	}
	defer busy.Stop()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	d := &disturbance{ended: make(chan struct{})}
	happened := make(chan error, 1)
	go func() {
		happened <- happens(d)
		stop()
	}()
	// Seldom: both CPUs are busy, and have one of ours together.
	p, err := profiler.Record(ctx, session.Spec{PIDs: []int{busy.PID}, Duration: lasts, Frequency: 99},
		func(p session.Progress) { d.samples.Store(p.Samples) })
	close(d.ended)
	return p, errors.Join(err, <-happened)
}

const day = 24 * time.Hour

// clockJumps sets the clock of the wall back and forth. Nothing may depend on
// it: a session lasts as long as it was asked to.
func clockJumps() (details string, err error) {
	const lasts = 4 * time.Second
	began := time.Now()
	p, err := disturbed(lasts, func(d *disturbance) error {
		for _, by := range []time.Duration{-day, 2 * day, -day} {
			time.Sleep(lasts / 5)
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
				return err
			}
			to := unix.NsecToTimespec(now.Nano() + int64(by))
			if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
				return fmt.Errorf("set the clock: %w", err)
			}
		}
		select { // what ends the recording is its duration
		case <-d.ended:
			return nil
		case <-time.After(hangs):
			return errors.New("the recording does not end")
		}
	})
	if err != nil {
		return "", err
	}
	m := &p.Meta
	details = fmt.Sprintf("%d samples, %v by the profile, %v in all, %s\n", m.Counts.Samples, m.Duration(), time.Since(began), m.Ended)
	if m.Ended != profile.EndedDuration || m.Duration() < lasts || m.Duration() > time.Hour || m.Counts.Samples == 0 {
		return details, errors.New("the recording did not last as long as it was asked to")
	}
	return details, nil
}

// cpuGoes takes a CPU away and gives it back: sampling goes on, and the next
// recording has all CPUs again.
func cpuGoes() (details string, err error) {
	const online = "/sys/devices/system/cpu/cpu1/online"
	if _, err := os.Stat(online); errors.Is(err, os.ErrNotExist) {
		return "this kernel keeps its CPUs\n", nil
	}
	p, err := disturbed(day, func(d *disturbance) error {
		for _, to := range []string{"", "0", "1"} {
			if to != "" {
				if err := os.WriteFile(online, []byte(to), 0); err != nil {
					return fmt.Errorf("write %s to %s: %w", to, online, err)
				}
			}
			if err := d.more(100); err != nil {
				return fmt.Errorf("after %q was written to %s: %w", to, online, err)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	m := &p.Meta
	details = fmt.Sprintf("%d samples, %d lost, %d CPUs\n", m.Counts.Samples, m.Counts.Lost, m.CPUs)
	if m.Counts.Lost > 0 {
		return details, errors.New("samples were lost")
	}
	next, err := disturbed(day, func(d *disturbance) error { return d.more(100) })
	if err != nil {
		return details, err
	}
	if next.Meta.CPUs != m.CPUs {
		return details, fmt.Errorf("the next recording samples %d CPUs, want %d", next.Meta.CPUs, m.CPUs)
	}
	return details, nil
}
