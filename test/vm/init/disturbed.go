// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// disturbed records a busy program while something happens to the machine, and
// says what came of it.
func disturbed(d time.Duration, meanwhile func() error) (p *profile.Profile, took time.Duration, err error) {
	busy, err := programs.Launch(exec.Command("/bin/threads", "2"), "ready")
	if err != nil {
		return nil, 0, err
	}
	defer busy.Stop()
	happened := make(chan error, 1)
	go func() { happened <- meanwhile() }()
	began := time.Now()
	p, err = profiler.Record(context.Background(), session.Spec{PIDs: []int{busy.PID}, Duration: d, Frequency: frequency}, nil)
	took = time.Since(began)
	return p, took, errors.Join(err, <-happened)
}

// clockJumps sets the clock of the wall back and forth by a day. Nothing may
// depend on it: a session lasts as long as it was asked to.
func clockJumps() (details string, err error) {
	const day = 24 * time.Hour
	p, took, err := disturbed(6*time.Second, func() error {
		for _, by := range []time.Duration{-day, 2 * day, -day} {
			time.Sleep(time.Second)
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
				return err
			}
			to := unix.NsecToTimespec(now.Nano() + int64(by))
			if err := unix.ClockSettime(unix.CLOCK_REALTIME, &to); err != nil {
				return fmt.Errorf("set the clock: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	m := &p.Meta
	details = fmt.Sprintf("%d samples, %v by the profile, %v in all, %s\n", m.Counts.Samples, m.Duration(), took, m.Ended)
	if m.Ended != profile.EndedDuration || m.Duration() < 6*time.Second || m.Duration() > time.Hour || m.Counts.Samples == 0 {
		return details, errors.New("the recording did not last as long as it was asked to")
	}
	return details, nil
}

// cpuGoes takes a CPU away and gives it back. Sampling goes on where the program
// goes on, and the recording ends as it should.
func cpuGoes() (details string, err error) {
	const online = "/sys/devices/system/cpu/cpu1/online"
	if _, err := os.Stat(online); errors.Is(err, os.ErrNotExist) {
		return "this kernel keeps its CPUs\n", nil
	}
	const away = 5 * time.Second
	p, took, err := disturbed(10*time.Second, func() error {
		time.Sleep(2 * time.Second)
		if err := os.WriteFile(online, []byte("0"), 0); err != nil {
			return fmt.Errorf("take CPU 1 away: %w", err)
		}
		time.Sleep(away)
		if err := os.WriteFile(online, []byte("1"), 0); err != nil {
			return fmt.Errorf("give CPU 1 back: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	m := &p.Meta
	sampled := time.Duration(m.Counts.Samples) * m.FrequencyHz.Period()
	details = fmt.Sprintf("%d samples (%v of CPU time, %v were used), %d lost, %v in all, %s; CPU 1 was away for %v\n",
		m.Counts.Samples, sampled, time.Duration(m.CPUTimeNs), m.Counts.Lost, took, m.Ended, away)
	// What CPU 0 gave to the program alone is at least a third of what both did.
	if m.Ended != profile.EndedDuration || m.Counts.Lost > 0 || sampled < time.Duration(m.CPUTimeNs)/3 {
		return details, errors.New("sampling did not go on")
	}
	// A machine with all its CPUs is a machine that can be profiled.
	whole, _, err := disturbed(time.Second, func() error { return nil })
	if err != nil {
		return details, err
	}
	if whole.Meta.CPUs != 2 {
		return details, fmt.Errorf("the next recording samples %d CPUs, want 2", whole.Meta.CPUs)
	}
	return details, nil
}
