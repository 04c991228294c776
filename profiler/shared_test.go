// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// sizeOfTables is that of an element of the maps that tables are in.
const sizeOfTables = "4096"

// kernelMaps are the BPF maps that this process has open: how many of a size of
// element, and how many bytes all have.
func kernelMaps(t *testing.T, valueSize string) (n int, bytes int64) {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			continue // closed meanwhile
		}
		f := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			f[key] = strings.TrimSpace(value)
		}
		if f["map_id"] == "" || seen[f["map_id"]] {
			continue
		}
		seen[f["map_id"]] = true
		size, err := strconv.ParseInt(f["memlock"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bytes += size
		if f["value_size"] == valueSize {
			n++
		}
	}
	return n, bytes
}

// Ten sessions on a big program have its tables in the kernel once, and those
// that begin when they are there walk by them from the first sample on.
func TestSessionsShareTables(t *testing.T) {
	needs(t, "node")
	target := launch(t, "", "node", "-e", "let s=0;setInterval(()=>{for(let i=0;i<5e7;i++)s+=i%7},0)")
	r := recorder(t)
	if _, err := r.KeepSpare(); err != nil {
		t.Fatal(err)
	}
	before, _ := kernelMaps(t, sizeOfTables)
	var all sync.WaitGroup
	for range 10 {
		rec := opened(t, r, spec(4*time.Second, target.PID))
		if err := rec.Start(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer rec.Close()
			if _, err := rec.Run(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(3 * time.Second)
	during, bytes := kernelMaps(t, sizeOfTables)
	all.Wait()
	t.Logf("%d maps of tables before, %d while ten sessions run; %.1f MB in all", before, during, float64(bytes)/(1<<20))
	if before < 2 || during > before+2 { // rows and pages, and those of a walk that waits for its turn
		t.Errorf("%d maps of tables before, %d while ten sessions run", before, during)
	}
	if bytes > 50<<20 {
		t.Errorf("ten sessions have %d bytes of maps in the kernel", bytes)
	}
	for range 3 {
		s := spec(time.Second, target.PID)
		s.Frequency = 99
		p := record(t, r, s)
		var samples uint64
		for _, n := range p.Meta.Ends {
			samples += n
		}
		fallback := p.Meta.Ends[profile.EndFallback.String()]
		t.Logf("of %d samples %d by frame pointer: %v", samples, fallback, p.Meta.Ends)
		if fallback > samples/2 { // none as a rule; a loaded machine feeds late
			t.Errorf("of %d samples %d were walked by frame pointer, although all tables were there: %v", samples, fallback, p.Meta.Ends)
		}
	}
	// Of what nobody uses only a little stays, with the spare.
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if _, bytes = kernelMaps(t, sizeOfTables); bytes < 12<<20 {
			t.Logf("%.1f MB of maps %v after the last session", float64(bytes)/(1<<20), time.Since(began).Round(time.Second))
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("a minute after the last session there are %d bytes of maps in the kernel", bytes)
		}
	}
}

// Each session adds what the others have not, and all of them have whole stacks
// while the store grows under them.
func TestTablesGrowUnderSessions(t *testing.T) {
	needs(t, "gcc", "node")
	one := programs.Start(t, "depth.c", programs.Options{Flags: noFrames, Args: []string{"20"}})
	r := recorder(t)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			p := record(t, r, spec(5*time.Second, one.PID))
			if got := whole(p); got < 0.95 {
				t.Errorf("%.1f %% whole stacks: %v", 100*got, p.Meta.Ends)
			}
			if got := share(p, "descend;descend;hot_a"); got < 0.9 {
				t.Errorf("%.1f %% of the samples have the names", 100*got)
			}
		})
	}
	time.Sleep(time.Second)
	big := launch(t, "", "node", "-e", "let s=0;setInterval(()=>{for(let i=0;i<5e7;i++)s+=i%7},0)")
	for range 2 {
		all.Go(func() {
			// Until the tables are there, however busy the machine is.
			for d := 3 * time.Second; ; d *= 2 {
				p := record(t, r, spec(d, big.PID))
				t.Logf("node: %v", p.Meta.Ends)
				if p.Meta.Ends[profile.EndRoot.String()] == 0 && d < time.Minute {
					continue
				}
				if got := whole(p); got < 0.9 {
					t.Errorf("of node %.1f %% whole stacks: %v", 100*got, p.Meta.Ends)
				}
				return
			}
		})
	}
	all.Wait()
}
