// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/storetest"
)

// childVariable names the directory of a child's queue, roundVariable makes what
// it puts its own.
const childVariable, roundVariable = "SRPROF_QUEUE_CHILD", "SRPROF_QUEUE_ROUND"

var crashLimits = Limits{MaxItems: 20}

const putters, batch = 3, 5

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// child puts items and, more slowly, takes some, until it is killed. It says
// what was put once that is so, and what was delivered before it is acknowledged.
func child(dir string) error {
	q, err := Open(dir, crashLimits)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i := range putters {
		go func() {
			for n := 0; ; n++ {
				item := fmt.Sprintf("item-%s-%d-%d", os.Getenv(roundVariable), i, n)
				if err := q.Put(kinds[n%2], []byte(item)); err != nil {
					failed <- err
				}
				fmt.Println("put", item)
			}
		}()
	}
	go func() {
		for range q.Arrived() {
			items, err := q.Peek(batch, math.MaxInt64)
			if err != nil {
				failed <- err
			}
			for _, item := range items {
				fmt.Println("got", string(item.Data))
				if err := q.Ack(item.ID); err != nil {
					failed <- err
				}
			}
		}
	}()
	return <-failed
}

// Killed at random moments: what was put was delivered, is there, or is counted
// as dropped. What a crash came upon in the middle may be counted besides: an
// item whose Put did not return, or one that was delivered and not acknowledged.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	put, got := map[string]bool{}, map[string]bool{}
	for round := range 15 {
		for _, line := range killed(t, dir, round, 1+random.IntN(120), time.Duration(random.IntN(3000))*time.Microsecond) {
			verb, item, _ := strings.Cut(line, " ")
			map[string]map[string]bool{"put": put, "got": got}[verb][item] = true
		}
		q := opened(t, dir, crashLimits)
		items, err := q.Peek(math.MaxInt, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, item := range items {
			there[string(item.Data)] = true
		}
		missing := 0
		for item := range put {
			if !got[item] && !there[item] {
				missing++
			}
		}
		s := q.Stats()
		dropped, besides := int(s.Dropped[Summary]+s.Dropped[Result]), (round+1)*(putters+batch)
		if dropped < missing || dropped > missing+besides || s.Damaged != 0 {
			t.Fatalf("round %d: of %d items %d are missing, and the counts are %+v", round, len(put), missing, s)
		}
	}
	t.Logf("of %d items %d were delivered", len(put), len(got))
}

// killed is what a child said before it was killed, some time after so many
// lines.
func killed(t *testing.T, dir string, round, lines int, later time.Duration) []string {
	t.Helper()
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), childVariable+"="+dir, fmt.Sprintf("%s=%d", roundVariable, round))
	return storetest.Killed(t, child, lines, later)
}

// A full disk: what cannot be put is said, what is there can be delivered, and
// then there is room again.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("only root may mount file systems")
		}
		t.Skip("only root may mount file systems")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	q := opened(t, filepath.Join(dir, "queue"), Limits{})
	var want []string
	for {
		item := fmt.Sprint(len(want), strings.Repeat("x", 10_000))
		err := q.Put(Result, []byte(item))
		if err == nil {
			want = append(want, item)
			continue
		}
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "disk_full" || !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("the error is %v", err)
		}
		break
	}
	items := holds(t, q, want...)
	if len(items) < 3 {
		t.Fatalf("%d items fill the disk", len(items))
	}
	if err := q.Ack(items[0].ID, items[1].ID); err != nil {
		t.Fatal(err)
	}
	put(t, q, Result, "last")
	want = append(want[2:], "last")
	holds(t, q, want...)
	q = opened(t, q.dir, Limits{})
	holds(t, q, want...)
	dropped(t, q, 0, 0, 0)
}
