// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// kinds are the kinds of visits. Their shares are out of shares.
var kinds = []struct {
	name  string
	share int
	visit func(*visitor, context.Context) error
}{
	{"busy target", 300, (*visitor).busy},
	{"children", 70, (*visitor).withChildren},
	{"exits", 150, (*visitor).exits},
	{"execs", 80, (*visitor).execs},
	{"killed", 40, (*visitor).killed},
	{"sleeps", 30, (*visitor).sleeps},
	{"no such process", 30, (*visitor).noProcess},
	{"zombie", 20, (*visitor).zombie},
	{"kernel thread", 20, (*visitor).kernelThread},
	{"invalid", 30, (*visitor).invalid},
	{"cancel", 80, (*visitor).cancel},
	{"snapshot", 30, (*visitor).snapshot},
	{"fetch cut and resumed", 40, (*visitor).resumed},
	{"identical requests", 20, (*visitor).identical},
	{"client gone", 10, (*visitor).gone},
	{"client killed", 10, (*visitor).clientKilled},
	{"no client at all", 30, (*visitor).stranger},
	{"another format", 10, (*visitor).another},
}

var shares = func() (sum int) {
	for _, k := range kinds {
		sum += k.share
	}
	return sum
}()

// noSamples is right where the target may have had no time on a CPU.
const noSamples = "failed: no_samples"

func (v *visitor) spec(of target, d time.Duration) session.Spec {
	return session.Spec{PIDs: []int{of.pid}, Duration: d, Frequency: 499, RequestID: rand.Text()}
}

// start asks until there is room.
func (v *visitor) start(ctx context.Context, spec session.Spec) (session.Session, error) {
	for {
		now, err := v.there.Start(ctx, spec)
		if errors.Is(err, session.ErrBusy) {
			v.ended(v.name, "refused: busy")
			time.Sleep(time.Duration(v.chance.Int64N(int64(200 * time.Millisecond))))
			continue
		}
		if err == nil {
			v.saw(now.ID)
		}
		return now, err
	}
}

// round asks, watches, fetches and judges; right are the ends other than a
// profile.
func (v *visitor) round(ctx context.Context, spec session.Spec, of target, right ...string) error {
	now, err := v.start(ctx, spec)
	if err == nil {
		now, err = v.until(ctx, now.ID)
	}
	if err := v.expect(now, err, append(right, "succeeded")...); err != nil {
		return err
	}
	if err != nil || now.State != session.StateSucceeded {
		return nil
	}
	return v.judged(ctx, now, of)
}

func (v *visitor) anyBusy() target { return v.always.busy[v.chance.IntN(len(v.always.busy))] }

func (v *visitor) busy(ctx context.Context) error {
	of := v.anyBusy()
	return v.round(ctx, v.spec(of, v.briefly()), of, noSamples)
}

func (v *visitor) withChildren(ctx context.Context) error {
	of := v.always.children
	spec := v.spec(of, v.briefly())
	spec.Children = true
	return v.round(ctx, spec, of, noSamples)
}

// briefTarget is a round with a target that is made for it.
func (v *visitor) briefTarget(ctx context.Context, does string, lives, d time.Duration, meanwhile func(stop func())) error {
	of, stop, err := v.brief(does, lives)
	if err != nil {
		return err
	}
	defer stop()
	if meanwhile != nil {
		meanwhile(stop)
	}
	return v.round(ctx, v.spec(of, d), of, noSamples, "refused: no_such_process", "refused: process_exited", "failed: process_exited", "failed: no_such_process")
}

func (v *visitor) exits(ctx context.Context) error {
	time.Sleep(time.Duration(v.chance.Int64N(int64(time.Millisecond)))) // some have not got to main when the session begins
	return v.briefTarget(ctx, "exit", time.Duration(v.chance.Int64N(int64(800*time.Millisecond))), 5*time.Second, nil)
}

func (v *visitor) execs(ctx context.Context) error {
	return v.briefTarget(ctx, "exec", v.briefly(), 100*time.Millisecond+v.briefly(), nil)
}

// killed is a target that somebody kills, all at once.
func (v *visitor) killed(ctx context.Context) error {
	var killing sync.WaitGroup
	defer killing.Wait()
	after := time.Duration(v.chance.Int64N(int64(800 * time.Millisecond)))
	return v.briefTarget(ctx, "threads", 30*time.Millisecond, 5*time.Second, func(stop func()) {
		killing.Go(func() {
			time.Sleep(after)
			stop()
		})
	})
}

func (v *visitor) sleeps(ctx context.Context) error {
	now, err := v.start(ctx, v.spec(v.always.asleep, v.briefly()))
	if err == nil {
		now, err = v.until(ctx, now.ID)
	}
	return v.expect(now, err, noSamples)
}

func (v *visitor) noProcess(ctx context.Context) error {
	now, err := v.start(ctx, v.spec(v.always.bad, v.briefly()))
	return v.expect(now, err, "refused: no_such_process")
}

func (v *visitor) zombie(ctx context.Context) error {
	pid, reap, err := zombie()
	if err != nil {
		return err
	}
	defer reap()
	now, err := v.start(ctx, v.spec(target{pid: pid}, v.briefly()))
	return v.expect(now, err, "refused: process_exited")
}

func (v *visitor) kernelThread(ctx context.Context) error {
	now, err := v.start(ctx, v.spec(v.always.kernel, v.briefly()))
	return v.expect(now, err, "refused: kernel_thread")
}

func (v *visitor) invalid(ctx context.Context) error {
	spec := v.spec(v.anyBusy(), v.briefly())
	want := "refused: "
	switch v.chance.IntN(5) {
	case 0:
		spec.PIDs, want = []int{-1 - v.chance.IntN(1000)}, want+"bad_pid"
	case 1:
		spec.Duration, want = time.Hour, want+"duration_limit"
	case 2:
		spec.Frequency, want = profile.Frequency(1001+v.chance.IntN(1000)), want+"frequency_limit"
	case 3:
		spec.Duration, want = -spec.Duration, want+"bad_duration"
	case 4:
		spec.RequestID, want = "a\nb", want+"bad_text"
	}
	now, err := v.there.Start(ctx, spec)
	return v.expect(now, err, want)
}

// cancel ends a session at any moment, in the queue too.
func (v *visitor) cancel(ctx context.Context) error {
	of := v.anyBusy()
	now, err := v.start(ctx, v.spec(of, 30*time.Second))
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(v.chance.Int64N(int64(150 * time.Millisecond))))
	now, err = v.there.Cancel(ctx, now.ID)
	if err := v.expect(now, err, "canceled: canceled"); err != nil {
		return err
	}
	if now.Progress.Samples > 0 {
		return v.judged(ctx, now, of)
	}
	if _, err := v.fetch(ctx, now.ID); !errors.Is(err, session.ErrCanceled) && !forgotten(err) {
		return fmt.Errorf("the profile of a session that was canceled without samples: %w", err)
	}
	return nil
}

// snapshot fetches while the session goes on.
func (v *visitor) snapshot(ctx context.Context) error {
	of := v.anyBusy()
	now, err := v.start(ctx, v.spec(of, 200*time.Millisecond+v.briefly()))
	if err != nil {
		return err
	}
	for range 2 {
		time.Sleep(time.Duration(v.chance.Int64N(int64(100 * time.Millisecond))))
		content, err := v.there.Fetch(ctx, now.ID, session.Want{Format: "folded"})
		if errors.Is(err, session.ErrNotReady) || errors.Is(err, session.ErrNoSamples) || forgotten(err) {
			continue
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(content.Body)
		content.Body.Close()
		if err != nil || len(text) == 0 {
			return fmt.Errorf("a snapshot has %d bytes: %w", len(text), err)
		}
	}
	now, err = v.until(ctx, now.ID)
	if err := v.expect(now, err, "succeeded", noSamples); err != nil || now.State != session.StateSucceeded {
		return err
	}
	return v.judged(ctx, now, of)
}

// resumed fetches a profile in two parts.
func (v *visitor) resumed(ctx context.Context) error {
	of := v.anyBusy()
	now, err := v.start(ctx, v.spec(of, v.briefly()))
	if err == nil {
		now, err = v.until(ctx, now.ID)
	}
	if err := v.expect(now, err, "succeeded", noSamples); err != nil || now.State != session.StateSucceeded {
		return err
	}
	front, err := v.there.Fetch(ctx, now.ID, session.Want{})
	if forgotten(err) {
		return nil
	}
	if err != nil {
		return err
	}
	cut := v.chance.Int64N(front.Size)
	all, err := io.ReadAll(io.LimitReader(front.Body, cut))
	front.Body.Close()
	if err != nil {
		return err
	}
	rest, err := v.there.Fetch(ctx, now.ID, session.Want{Offset: cut, Digest: front.Digest})
	if forgotten(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("go on at byte %d of %d: %w", cut, front.Size, err)
	}
	defer rest.Body.Close()
	more, err := io.ReadAll(rest.Body)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(append(all, more...)); hex.EncodeToString(sum[:]) != front.Digest {
		return fmt.Errorf("%d and %d bytes are not the profile of %d", len(all), len(more), front.Size)
	}
	return nil
}

// identical asks for the same several times at once: there is one session, and
// all have the same profile of it.
func (v *visitor) identical(ctx context.Context) error {
	of := v.anyBusy()
	spec := v.spec(of, 300*time.Millisecond+v.briefly())
	spec.RequestID = ""
	var (
		asking sync.WaitGroup
		ids    [4]session.ID
		errs   [4]error
	)
	for i := range ids {
		asking.Go(func() {
			now, err := v.there.Start(ctx, spec)
			ids[i], errs[i] = now.ID, err
		})
	}
	asking.Wait()
	var first session.ID
	for i := range ids {
		if errors.Is(errs[i], session.ErrBusy) {
			v.ended(v.name, "refused: busy")
			continue
		}
		if errs[i] != nil {
			return errs[i]
		}
		if first == "" {
			first = ids[i]
			v.saw(first)
		}
		if ids[i] != first && !v.tooLate(ctx, first, ids[i]) {
			return fmt.Errorf("sessions %q for requests of the same", ids)
		}
	}
	if first == "" {
		return nil
	}
	now, err := v.until(ctx, first)
	if err := v.expect(now, err, "succeeded", noSamples); err != nil || now.State != session.StateSucceeded {
		return err
	}
	return v.judged(ctx, now, of)
}

// tooLate says whether one of two sessions was made when the other had ended: then
// there was nothing left to share.
func (v *visitor) tooLate(ctx context.Context, a, b session.ID) bool {
	one, err := v.there.Get(ctx, a)
	other, err2 := v.there.Get(ctx, b)
	if err != nil || err2 != nil {
		return forgotten(err) || forgotten(err2)
	}
	v.saw(a)
	v.saw(b)
	return one.State.Final() && !other.Created.Before(one.Ended) || other.State.Final() && !one.Created.Before(other.Ended)
}
