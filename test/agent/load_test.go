// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

const (
	largeProfile = 200 << 20
	agentMemory  = 40 << 20
)

// shelf is a profiler with one profile, larger than any that there is.
type shelf struct {
	session.Runner
	size   int64
	digest string
}

var kept = session.Session{ID: "x", State: session.StateSucceeded, Spec: session.Spec{PIDs: []int{1}, Duration: time.Second, Frequency: 99}, Ended: time.Unix(1, 0), Shared: 1}

func content(size int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }

func newShelf(t *testing.T, size int64) *shelf {
	t.Helper()
	sum := sha256.New()
	if _, err := io.Copy(sum, content(size)); err != nil {
		t.Fatal(err)
	}
	return &shelf{size: size, digest: hex.EncodeToString(sum.Sum(nil))}
}

func (s *shelf) Get(context.Context, session.ID) (session.Session, error) { return kept, nil }

func (s *shelf) List(context.Context, session.Filter) ([]session.Session, error) {
	return []session.Session{kept}, nil
}

func (s *shelf) Watch(ctx context.Context, _ session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) { yield(kept, nil) }
}

func (s *shelf) Fetch(_ context.Context, _ session.ID, want session.Want) (*session.Content, error) {
	if want.Offset != 0 {
		return nil, errors.New("it is not to be resumed in these tests")
	}
	return &session.Content{Session: kept, Format: session.FormatPprof, Size: s.size, Digest: s.digest, Body: io.NopCloser(content(s.size))}, nil
}

// agentOfShelf is the real agent before it.
func agentOfShelf(t *testing.T, size int64) (s *shelf, certs string, agent *daemons.Program) {
	t.Helper()
	s = newShelf(t, size)
	certs, agent = agentOf(t, s)
	return s, certs, agent
}

func agentOf(t *testing.T, s session.Runner) (certs string, agent *daemons.Program) {
	t.Helper()
	certs = daemons.Certificates(t)
	address := hops.Serve(t, certs, "profiler", remote.ServerOptions(slog.New(slog.DiscardHandler)), func(g *grpc.Server) {
		remote.NewServer(s, 0).Register(g)
		serviceradar.RegisterServiceRadar(g, s, serviceradar.About{Version: "this", Limits: func() remote.Limits { return remote.Limits{} }, Health: func() remote.Health { return remote.Health{Healthy: true} }})
	})
	agent = agentBefore(t, certs, address, "", "")
	agent.WaitFor("the profiler is there")
	return certs, agent
}

// A profile of 200 MB passes through the agent, which stays small.
func TestLargeProfilePasses(t *testing.T) {
	if testing.Short() {
		t.Skip("200 MB")
	}
	s, certs, agent := agentOfShelf(t, largeProfile)
	c, err := hops.Dial(t, certs, "admin", agent.Address).Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Body.Close()
	sum := sha256.New()
	if n, err := io.Copy(sum, c.Body); err != nil || n != s.size || hex.EncodeToString(sum.Sum(nil)) != s.digest {
		t.Fatalf("%d bytes, %v", n, err)
	}
	peak := agent.Memory("VmHWM")
	t.Logf("the agent took %.1f MB at most", float64(peak)/1e6)
	if peak > agentMemory {
		t.Errorf("the agent took %d bytes", peak)
	}
}

// shelfOfText has a profile whose text is as large: stacks that are all
// different, with long names.
type shelfOfText struct {
	*shelf
	text string
}

func (s *shelfOfText) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	if want.Format != "folded" {
		return s.shelf.Fetch(ctx, id, want)
	}
	sum := sha256.Sum256([]byte(s.text))
	return &session.Content{Session: kept, Format: "folded", Size: int64(len(s.text)), Digest: hex.EncodeToString(sum[:]), Body: io.NopCloser(strings.NewReader(s.text))}, nil
}

// What ServiceRadar's pollers and clients of the first profiler are sent of it
// keeps the agent as small.
func TestLargeTextPasses(t *testing.T) {
	if testing.Short() {
		t.Skip("50 MB, several times")
	}
	var text strings.Builder
	for i := 0; text.Len() < largeProfile/4; i++ {
		fmt.Fprintf(&text, "main%s;leaf_%d %d\n", strings.Repeat(";function_with_a_<long>_name", 100), i, 1+i%7)
	}
	s := &shelfOfText{newShelf(t, 1), text.String()}
	certs, agent := agentOf(t, s)
	conn := connect(t, certs, "admin", agent.Address)
	peak := int64(math.MaxInt64)
	for try := 0; try < 3 && peak > agentMemory; try++ { // a machine that leaves the garbage collector no CPU only adds to it
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", agent.PID()), []byte("5"), 0); err != nil { // the peak counts anew
			t.Fatal(err)
		}
		passText(t, conn, s.text)
		peak = min(peak, agent.Memory("VmHWM"))
		t.Logf("the agent took %.1f MB at most", float64(peak)/1e6)
	}
	if peak > agentMemory {
		t.Errorf("the agent took %d bytes", peak)
	}
}

// passText fetches a profile in each of the ways that ServiceRadar has.
func passText(t *testing.T, conn *grpc.ClientConn, text string) {
	t.Helper()
	var sent strings.Builder
	stream, err := legacy.NewProfilerServiceClient(conn).GetProfilingResults(t.Context(), &legacy.GetProfilingResultsRequest{SessionId: "x"})
	for err == nil {
		var c *legacy.ProfilingResultsChunk
		if c, err = stream.Recv(); err == nil {
			sent.Write(c.GetData())
		}
	}
	if !errors.Is(err, io.EOF) || sent.String() != text {
		t.Errorf("%d bytes as with the first profiler, %v", sent.Len(), err)
	}
	checks := monitoring.NewAgentServiceClient(conn)
	one, err := checks.GetResults(t.Context(), &monitoring.ResultsRequest{ServiceType: "profiler"})
	if o := object(t, one.GetData()); err != nil || o["folded_truncated"] != true || len(one.GetData()) > 3<<20 {
		t.Errorf("%d bytes in one answer, %v", len(one.GetData()), err)
	}
	sent.Reset()
	pieces, err := checks.StreamResults(t.Context(), &monitoring.ResultsRequest{ServiceType: "profiler"})
	for err == nil {
		var c *monitoring.ResultsChunk
		if c, err = pieces.Recv(); err == nil {
			hosts, _ := object(t, c.GetData())["hosts"].([]any)
			host, _ := hosts[0].(map[string]any)
			part, _ := host["folded"].(string)
			sent.WriteString(part)
		}
	}
	if !errors.Is(err, io.EOF) || sent.String() != text {
		t.Errorf("%d bytes in chunks, %v", sent.Len(), err)
	}
}

// Readers that stall hold up nobody else, and do not fill the agent's memory.
func TestSlowReaders(t *testing.T) {
	s, certs, agent := agentOfShelf(t, 8<<20)
	var stalled []*session.Content
	for range 4 {
		client := hops.Dial(t, certs, "admin", agent.Address)
		for range 5 {
			c, err := client.Fetch(t.Context(), "x", session.Want{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Body.Close()
			if _, err := c.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			stalled = append(stalled, c)
		}
	}
	c, err := hops.Dial(t, certs, "poller", agent.Address).Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Body.Close()
	if n, err := io.Copy(io.Discard, c.Body); err != nil || n != s.size {
		t.Errorf("somebody else has %d bytes, %v", n, err)
	}
	peak := agent.Memory("VmHWM")
	t.Logf("the agent took %.1f MB at most for %d stalled readers", float64(peak)/1e6, len(stalled))
	if peak > agentMemory {
		t.Errorf("the agent took %d bytes", peak)
	}
	if n, err := io.Copy(io.Discard, stalled[7].Body); err != nil || n != s.size-1 {
		t.Errorf("one that goes on has %d bytes, %v", n, err)
	}
}

// A thousand calls at once, of each kind, on ten connections: each is answered,
// and the agent stays small.
func TestThousandCallsAtOnce(t *testing.T) {
	h := newStation(t, "", "")
	target := busy(t)
	var wg sync.WaitGroup
	var answered atomic.Int64
	for range 10 {
		conn := connect(t, h.certs, "poller", h.agent.Address)
		client := hops.Dial(t, h.certs, "admin", h.agent.Address)
		checks := monitoring.NewAgentServiceClient(conn)
		calls := []func(ctx context.Context) error{
			func(ctx context.Context) error {
				_, err := checks.GetStatus(ctx, &monitoring.StatusRequest{ServiceType: "profiler"})
				return err
			},
			func(ctx context.Context) error {
				_, err := checks.GetStatus(ctx, &monitoring.StatusRequest{ServiceType: "icmp"})
				return err
			},
			func(ctx context.Context) error {
				_, err := checks.GetResults(ctx, &monitoring.ResultsRequest{ServiceType: "profiler"})
				return err
			},
			func(ctx context.Context) error {
				out, err := checks.TriggerProfiling(ctx, &monitoring.TriggerProfilingRequest{RequestId: "all the same", ProcessIds: []int32{int32(target.PID)}, DurationSeconds: 60})
				if err == nil && !out.GetSuccess() {
					err = status.Error(codes.Internal, out.GetMessage())
				}
				return err
			},
			func(ctx context.Context) error {
				_, err := client.List(ctx, session.Filter{})
				return err
			},
		}
		for i := range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), daemons.Hangs)
				defer cancel()
				if err := calls[i%len(calls)](ctx); err != nil {
					t.Errorf("call %d: %v", i%len(calls), err)
					return
				}
				answered.Add(1)
			})
		}
	}
	wg.Wait()
	peak := h.agent.Memory("VmHWM")
	t.Logf("%d calls were answered; the agent took %.1f MB at most", answered.Load(), float64(peak)/1e6)
	if peak > 2*agentMemory { // each call has buffers of its own, all at one moment
		t.Errorf("the agent took %d bytes", peak)
	}
	all, err := hops.Dial(t, h.certs, "admin", h.agent.Address).List(t.Context(), session.Filter{})
	if err != nil || len(all) != 1 {
		t.Errorf("%d sessions came of one request, %v", len(all), err)
	}
}
