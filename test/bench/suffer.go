// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// suffer measures what the most that a service may do costs a target: ten
// sessions at 999 Hz, of it or of another process, while it does a fixed amount
// of work. That its result stays the same is checked on the way.
func (b *bench) suffer() error {
	p, err := programs.Read("checksum.c")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return err
	}
	path, err := p.Build(dir)
	if err != nil {
		return err
	}
	d, err := b.serve()
	if err != nil {
		return err
	}
	defer d.stop()
	sleeper, err := programs.Launch(exec.CommandContext(b.ctx, "sleep", "1000000"), "")
	if err != nil {
		return err
	}
	defer sleeper.Stop()

	const rounds, sessions = 1500, 10
	ways := []struct {
		name     string
		sessions int
		of       func(target int) int
	}{
		{"none", 0, nil},
		{"one at 999 Hz, of it", 1, func(target int) int { return target }},
		{"ten at 999 Hz, of it", sessions, func(target int) int { return target }},
		{"ten at 999 Hz, of a process that sleeps", sessions, func(int) int { return sleeper.PID }},
	}
	n := b.rounds(5, 15)
	results := make([][]programs.Sum, len(ways))
	for range n {
		for i, way := range ways { // in turns: what else the machine does meets all of them
			sum, err := b.checksum(d, path, rounds, way.sessions, way.of)
			if err != nil {
				return err
			}
			if want := results[0]; len(want) > 0 && sum.Sum != want[0].Sum {
				return fmt.Errorf("with sessions (%s) the target's checksum is %s, without %s", way.name, sum.Sum, want[0].Sum)
			}
			results[i] = append(results[i], sum)
		}
	}
	names := make([]string, len(ways))
	for i, way := range ways {
		names[i] = way.name
	}
	printSuffered(names, results, rounds)
	return nil
}

// printSuffered prints what each way cost beside the first of them, without
// sessions.
func printSuffered(ways []string, results [][]programs.Sum, rounds int) {
	n := len(results[0])
	out := table{title: "What ten sessions cost a target", columns: []string{"sessions", "CPU time of the target", "more", "quartiles", "its time on the clock", "more"}}
	for i, way := range ways {
		var cpu, wall, more, longer []float64
		for k, r := range results[i] {
			cpu, wall = append(cpu, r.CPU.Seconds()), append(wall, r.Wall.Seconds())
			more = append(more, 100*(r.CPU.Seconds()/results[0][k].CPU.Seconds()-1))
			longer = append(longer, 100*(r.Wall.Seconds()/results[0][k].Wall.Seconds()-1))
		}
		out.row(way, number(median(cpu)*1000, 0, " ms"), number(median(more), 1, " %"), number(quantile(more, 0.25), 1, "")+" to "+number(quantile(more, 0.75), 1, " %"),
			number(median(wall)*1000, 0, " ms"), number(median(longer), 1, " %"))
	}
	out.note("A program that computes a checksum in two threads on %d rounds of work, %d runs each way in turns; medians of what is more than in the run without sessions of the same turn. The result was the same, to the bit, in all %d runs.", rounds, n, n*len(ways))
	out.print()
}

// checksum runs the target once under so many sessions.
func (b *bench) checksum(d *daemon, path string, rounds, sessions int, of func(target int) int) (sum programs.Sum, err error) {
	c, err := programs.NewChecksum(path, rounds)
	if err != nil {
		return sum, err
	}
	defer c.Stop()
	var ids []session.ID
	for i := range sessions {
		now, err := d.Start(b.ctx, session.Spec{PIDs: []int{of(c.PID)}, Duration: time.Minute + time.Duration(i)*time.Second, Frequency: 999, RequestID: requestID()})
		if err != nil {
			return sum, err
		}
		ids = append(ids, now.ID)
	}
	if sessions > 0 {
		time.Sleep(settle) // until the tables are in
	}
	sum, err = c.Finish()
	for _, id := range ids {
		if _, stop := d.Cancel(b.ctx, id); stop != nil && err == nil {
			err = stop
		}
	}
	return sum, err
}
