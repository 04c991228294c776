// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// started is how long it took from the request until sampling was on, and to
// the first sample.
type started struct{ on, first time.Duration }

// starter runs a session to its end.
type starter interface {
	start(context.Context, session.Spec) (started, error)
	stop()
}

// recorder is the service's inside alone, in this process.
type recorder struct{ *profiler.Recorder }

func newRecorder() (recorder, error) {
	r := profiler.NewRecorder(8<<20, 4<<20)
	_, err := r.KeepSpare()
	return recorder{r}, err
}

func (r recorder) stop() { r.Close() }

func (r recorder) start(ctx context.Context, spec session.Spec) (started, error) {
	begun := time.Now()
	rec, err := r.Open(spec)
	if err != nil {
		return started{}, err
	}
	defer rec.Close()
	if err := rec.Start(); err != nil {
		return started{}, err
	}
	out := started{on: time.Since(begun)}
	p, err := rec.Run(ctx, nil)
	if err != nil {
		return out, err
	}
	out.first = p.Meta.FirstSample.Sub(begun)
	return out, nil
}

// service measures from a request to sampling, of a service that runs. Of its
// targets one runs at a time: another would take the CPU that this one is to be
// met on.
func (b *bench) service() error {
	out := table{title: "From a request to the first sample, in a service", columns: []string{"asked", "target", "Hz",
		"sessions", "sampling on, median", "p99", "first sample, median", "p99"}}
	for _, c := range []struct {
		start func() (*target, error)
		warm  []warm
	}{
		{func() (*target, error) { return b.urgent("split.c") }, []warm{{99, b.rounds(20, 200)}, {999, b.rounds(20, 200)}}},
		{b.large, []warm{{99, b.rounds(5, 20)}}},
	} {
		tg, err := c.start()
		if err != nil {
			return err
		}
		err = b.serviceOf(tg, c.warm, &out)
		tg.stop()
		if err != nil {
			return err
		}
	}
	out.note("*First*: each time of a service that was just started. The small program has the highest priority, so that its first sample does not wait until it has a CPU.")
	out.print()
	return nil
}

// warm is sessions of a service that is.
type warm struct {
	hz       profile.Frequency
	sessions int
}

func (b *bench) serviceOf(tg *target, all []warm, out *table) error {
	for _, w := range []struct {
		name string
		open func() (starter, error)
	}{
		{"profiler.Recorder", func() (starter, error) { return newRecorder() }},
		{"over mTLS", func() (starter, error) { return b.serve() }},
	} {
		if err := b.serviceWarm(w.name, w.open, out, tg, all); err != nil {
			return err
		}
		if err := b.serviceFirst(w.name, w.open, out, tg); err != nil {
			return err
		}
	}
	return nil
}

// urgent starts one of our programs at the highest priority.
func (b *bench) urgent(name string) (*target, error) {
	p, err := b.start(name, []string{"nice", "-n", "-20"})
	if err != nil {
		return nil, err
	}
	return &target{"small C program", p.PID, p.Stop}, nil
}

func (b *bench) serviceWarm(name string, open func() (starter, error), out *table, tg *target, warm []warm) error {
	s, err := open()
	if err != nil {
		return err
	}
	defer s.stop()
	for _, w := range warm {
		var all []started
		for range w.sessions + 1 { // the first one is not warm
			one, err := b.session(s, tg, w.hz)
			if err != nil {
				return err
			}
			all = append(all, one)
			time.Sleep(50 * time.Millisecond)
		}
		serviceRow(out, name, tg.label, w.hz, all[1:])
	}
	return nil
}

func (b *bench) serviceFirst(name string, open func() (starter, error), out *table, tg *target) error {
	var all []started
	for range b.rounds(3, 9) {
		s, err := open()
		if err != nil {
			return err
		}
		one, err := b.session(s, tg, 99)
		s.stop()
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	serviceRow(out, name+", first", tg.label, 99, all)
	return nil
}

// session is long enough for a first sample.
func (b *bench) session(s starter, tg *target, hz profile.Frequency) (started, error) {
	one, err := s.start(b.ctx, session.Spec{PIDs: []int{tg.pid}, Duration: 120 * time.Millisecond, Frequency: hz, RequestID: requestID()})
	if errors.Is(err, session.ErrNoSamples) { // others had the CPUs
		err = nil
	}
	return one, err
}

func serviceRow(out *table, name, label string, hz profile.Frequency, all []started) {
	var on, first []float64
	for _, s := range all {
		on = append(on, milliseconds(s.on))
		if s.first > 0 {
			first = append(first, milliseconds(s.first))
		}
	}
	out.row(name, label, fmt.Sprint(hz), fmt.Sprint(len(all)), number(median(on), 2, " ms"), number(quantile(on, 0.99), 2, " ms"),
		number(median(first), 1, " ms"), number(quantile(first, 0.99), 1, " ms"))
}

// tenTargets starts ten processes of several kinds.
func (b *bench) tenTargets() (all []*target, err error) {
	for _, name := range []string{"split.c", "depth.c", "clock.c", "syscalls.c", "threads.c", "signals.c", "shared.c", "goroutines"} {
		p, err := b.start(name, nil)
		if err != nil {
			return all, err
		}
		all = append(all, &target{name, p.PID, p.Stop})
	}
	if b.tools["redis-server"] && b.tools["redis-benchmark"] {
		tg, err := b.redis()
		if err != nil {
			return all, err
		}
		all = append(all, tg)
	}
	p, err := programs.Launch(exec.CommandContext(b.ctx, "perl", "-e", `$| = 1; print "ready\n"; for (my $i = 0; ; $i++) { my %h = map { $_ => $i } 1 .. 100 }`), "ready")
	if err != nil {
		return all, err
	}
	return append(all, &target{"perl", p.PID, p.Stop}), nil
}
