// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// serviceMemory measures what the service needs, in its process and in the
// kernel: idle, with one session, with ten at once.
func (b *bench) serviceMemory() error {
	out := table{title: "Memory of the service", columns: []string{"sessions", "process", "kernel", "sum"}}
	if _, _, err := b.daemonProgram(); err != nil {
		return err
	}
	p, err := b.start("split.c", nil)
	if err != nil {
		return err
	}
	one := &target{"small C program", p.PID, p.Stop}
	defer one.stop()
	ten, err := b.tenTargets()
	defer func() {
		for _, tg := range ten {
			tg.stop()
		}
	}()
	if err != nil {
		return err
	}
	cases := []struct {
		label   string
		targets []*target
	}{{"one, small C program", []*target{one}}, {fmt.Sprintf("%d at once", len(ten)), ten}}
	if b.tools["node"] {
		tg, err := b.node()
		if err != nil {
			return err
		}
		defer tg.stop()
		cases = append(cases, struct {
			label   string
			targets []*target
		}{"one, node", []*target{tg}})
	}
	for i, c := range cases {
		if err := b.serviceMemoryOf(c.label, c.targets, &out, i == 0); err != nil {
			return err
		}
	}
	out.note("Peaks during sessions of 5 s, of a service that was started shortly before each time, with profiles fetched over mTLS at the end. Process: resident memory; kernel: BPF maps and programs. Ten: %s.", labels(ten))
	out.print()
	return nil
}

func labels(all []*target) string {
	var names []string
	for _, tg := range all {
		names = append(names, tg.label)
	}
	return strings.Join(names, ", ")
}

// givingBack is how long it takes until an idle service has given back what
// it can.
const givingBack = 5 * time.Second

// serviceMemoryOf measures sessions on targets at different frequencies.
func (b *bench) serviceMemoryOf(label string, targets []*target, out *table, idle bool) error {
	d, err := b.serve()
	if err != nil {
		return err
	}
	defer d.stop()
	if idle {
		time.Sleep(time.Second)
		process, _ := statusField(d.tool.pid(), "VmRSS") // 0 shows
		serviceMemoryRow(out, "idle, 1s after the start", process, kernelMemory(d.tool.pid()))
	}
	time.Sleep(givingBack) // what the start took is given back
	if idle {
		process, _ := statusField(d.tool.pid(), "VmRSS")
		serviceMemoryRow(out, fmt.Sprintf("idle, %v later", givingBack), process, kernelMemory(d.tool.pid()))
	}
	p := b.watchMemory(d.tool.pid())
	err = d.sessions(b.ctx, targets)
	p.end()
	if err != nil {
		return err
	}
	serviceMemoryRow(out, label, p.process, p.kernel)
	time.Sleep(givingBack)
	switches := voluntarySwitches(d.tool.pid())
	time.Sleep(10 * time.Second)
	switches = voluntarySwitches(d.tool.pid()) - switches
	process, _ := statusField(d.tool.pid(), "VmRSS")
	serviceMemoryRow(out, fmt.Sprintf("idle %v after, woken up %.0f times in 10 s", givingBack, switches), process, kernelMemory(d.tool.pid()))
	return nil
}

func serviceMemoryRow(out *table, label string, process, kernel float64) {
	const mib = 1 << 20
	out.row(label, number(process/mib, 1, " MB"), number(kernel/mib, 1, " MB"), number((process+kernel)/mib, 1, " MB"))
}

// sessions runs one on each target, at once, and fetches the profiles.
func (d *daemon) sessions(ctx context.Context, targets []*target) error {
	var all sync.WaitGroup
	errs := make([]error, len(targets))
	for i, tg := range targets {
		all.Go(func() {
			s, err := d.Start(ctx, session.Spec{PIDs: []int{tg.pid}, Duration: 5 * time.Second, Frequency: profile.Frequency(99 + 11*i)})
			if err == nil {
				_, err = d.profileOf(ctx, s.ID)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// peak is the most memory that a process had since it is watched.
type peak struct {
	process, kernel float64
	stop            chan struct{}
	done            sync.WaitGroup
}

func (b *bench) watchMemory(pid int) *peak {
	p := &peak{stop: make(chan struct{})}
	p.done.Go(func() {
		often := time.NewTicker(20 * time.Millisecond)
		defer often.Stop()
		for n := 0; ; n++ {
			now, _ := statusField(pid, "VmRSS") // 0 when it has just ended
			p.process = max(p.process, now)
			if n%10 == 0 {
				p.kernel = max(p.kernel, kernelMemory(pid))
			}
			select {
			case <-p.stop:
				return
			case <-often.C:
			}
		}
	})
	return p
}

func (p *peak) end() {
	close(p.stop)
	p.done.Wait()
}

// voluntarySwitches is how often the threads of a process have waited for
// something.
func voluntarySwitches(pid int) (sum float64) {
	for _, text := range threadStatus(pid) {
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n, _ := strconv.ParseFloat(strings.TrimSpace(v), 64) // the kernel's own number
				sum += n
			}
		}
	}
	return sum
}
