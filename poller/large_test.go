// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

const largeSize = 200 << 20

// large is a profile of that size, from some byte on; always the same one.
func large(from int64) io.Reader {
	r := rand.NewChaCha8([32]byte{1})
	if from > 0 {
		_, _ = io.CopyN(io.Discard, r, from) // it never ends, and never fails
	}
	return io.LimitReader(r, largeSize-from)
}

// laden is a host whose profiles are large, and whose connection breaks once.
type laden struct {
	*double
	digest string
	cut    atomic.Bool
	sent   atomic.Int64
}

func (l *laden) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	c, err := l.double.Fetch(ctx, id, session.Want{})
	if err != nil {
		return nil, err
	}
	if err := fits(want, largeSize, l.digest); err != nil {
		return nil, err
	}
	c.Size, c.Offset, c.Digest, c.Body = largeSize, want.Offset, l.digest, &ladenBody{l, large(want.Offset), 0}
	return c, nil
}

type ladenBody struct {
	of   *laden
	from io.Reader
	n    int64
}

func (b *ladenBody) Read(p []byte) (int, error) {
	if b.n > largeSize/2 && !b.of.cut.Swap(true) {
		return 0, errDown
	}
	n, err := b.from.Read(p)
	b.n += int64(n)
	b.of.sent.Add(int64(n))
	return n, err
}

func (b *ladenBody) Close() error { return nil }

// peak measures how large the heap is at most, until stop is called.
func peak() (stop func() uint64) {
	over, most := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
		var top uint64
		for {
			metrics.Read(sample)
			top = max(top, sample[0].Value.Uint64()+sample[1].Value.Uint64())
			select {
			case <-over:
				most <- top
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(over)
		return <-most
	}
}

// A profile of 200 MB passes through a poller with little memory, and goes on
// where it was when the connection breaks.
func TestLargeProfile(t *testing.T) {
	sum := sha256.New()
	if _, err := io.Copy(sum, large(0)); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, 1, nil)
	f.crash()
	l := &laden{double: f.hosts[0], digest: hex.EncodeToString(sum.Sum(nil))}
	f.as = func(*double) session.Fleet { return l }
	f.open()
	defer f.crash()
	debug.FreeOSMemory()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(64 << 20))
	top := peak()
	last := f.ended(f.start(spec(10 * time.Millisecond)).ID)
	if last.State != session.StateSucceeded || last.Hosts[0].Size != largeSize || last.Hosts[0].Digest != l.digest {
		t.Fatalf("%+v", last)
	}
	if again := l.sent.Load() - largeSize; !l.cut.Load() || again > 1<<20 {
		t.Errorf("it was cut: %v; %d bytes came twice", l.cut.Load(), again)
	}
	c, err := f.Fetch(t.Context(), last.ID, session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	sum.Reset()
	if n, err := io.Copy(sum, c.Body); err != nil || n != largeSize || hex.EncodeToString(sum.Sum(nil)) != l.digest {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := c.Body.Close(); err != nil {
		t.Error(err)
	}
	most := top()
	t.Logf("the heap was %d MB at most", most>>20)
	if most > 64<<20 {
		t.Errorf("the heap was %d MB", most>>20)
	}
}
