// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	methodStart   = "/profiler.ProfilerService/StartProfiling"
	methodResults = "/profiler.ProfilerService/GetProfilingResults"
	methodStatus  = "/profiler.ProfilerService/GetStatus"
)

func start(t testing.TB, conn *grpc.ClientConn, pid, seconds, hz int32) *legacy.StartProfilingResponse {
	t.Helper()
	out := new(legacy.StartProfilingResponse)
	in := &legacy.StartProfilingRequest{ProcessId: pid, DurationSeconds: seconds, Frequency: hz}
	if err := conn.Invoke(t.Context(), methodStart, in, out); err != nil {
		t.Fatalf("bad input became a gRPC error: %v", err)
	}
	return out
}

// The texts, and what is complained of first when several things are wrong.
func TestLegacyRefusals(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	for _, c := range []struct {
		pid, seconds, hz int32
		want             string
	}{
		{0, 0, 0, "Invalid process ID"},
		{-1, 10, 99, "Invalid process ID"},
		{math.MinInt32, 10, 99, "Invalid process ID"},
		{1, 0, 0, "Duration must be between 1 and 300 seconds"},
		{1, -5, 99, "Duration must be between 1 and 300 seconds"},
		{1, 301, 99, "Duration must be between 1 and 300 seconds"},
		{1, math.MaxInt32, math.MaxInt32, "Duration must be between 1 and 300 seconds"},
		{1, 300, 0, "Frequency must be between 1 and 1000 Hz"},
		{1, 1, 1001, "Frequency must be between 1 and 1000 Hz"},
	} {
		out := start(t, conn, c.pid, c.seconds, c.hz)
		if out.GetSuccess() || out.GetMessage() != c.want || out.GetSessionId() != "" {
			t.Errorf("%d %d %d: %v, want %q", c.pid, c.seconds, c.hz, out, c.want)
		}
	}
	if len(f.started) != 0 {
		t.Errorf("sessions were started: %v", f.started)
	}
}

func TestLegacyLimitsOfConfiguration(t *testing.T) {
	conn, _ := serve(t, example(), remote.Limits{MaxSessionDurationSeconds: 60, MaxFrequencyHz: 200})
	if got, want := start(t, conn, 1, 61, 99).GetMessage(), "Duration must be between 1 and 60 seconds"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := start(t, conn, 1, 60, 201).GetMessage(), "Frequency must be between 1 and 200 Hz"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLegacyStart(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	out := start(t, conn, 4242, 300, 1000)
	if !out.GetSuccess() || out.GetMessage() != "Profiling started for PID 4242" || out.GetSessionId() != "3c6ba1c8-7a3f-4b1c-9c4e-0c7d0d6d7a11" {
		t.Errorf("%v", out)
	}
	if len(f.started) != 1 || f.started[0].PIDs[0] != 4242 || f.started[0].Duration != 300*time.Second || f.started[0].Frequency != 1000 {
		t.Errorf("asked for %+v", f.started)
	}
	for want, err := range map[string]error{
		"Process 4242 not found":                       errNoProcess,
		"10 sessions run and 10 wait; try again in 2s": errBusy,
		"no spool (file does not exist)":               &session.Error{Kind: session.ErrUnavailable, Problem: "no spool", Cause: fs.ErrNotExist},
		"name \"\ufffd\" is odd":                       session.Invalid("odd", "name \"\xff\" is odd", ""),
	} {
		f.refuse = err
		if out := start(t, conn, 4242, 10, 99); out.GetSuccess() || out.GetMessage() != want || out.GetSessionId() != "" {
			t.Errorf("%v, want %q", out, want)
		}
	}
}

func fetched(t testing.TB, conn *grpc.ClientConn, id session.ID) ([]*legacy.ProfilingResultsChunk, error) {
	t.Helper()
	stream, err := legacy.NewProfilerServiceClient(conn).GetProfilingResults(t.Context(), &legacy.GetProfilingResultsRequest{SessionId: string(id)})
	if err != nil {
		t.Fatal(err)
	}
	var chunks []*legacy.ProfilingResultsChunk
	for {
		c, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return chunks, nil
		}
		if err != nil {
			return chunks, err
		}
		chunks = append(chunks, c)
	}
}

// joined puts chunks together and checks what each says of itself.
func joined(t testing.TB, chunks []*legacy.ProfilingResultsChunk, size int) string {
	t.Helper()
	var text strings.Builder
	for i, c := range chunks {
		last := i == len(chunks)-1
		if c.GetChunkIndex() != int32(i) || c.GetIsFinal() != last || !last && len(c.GetData()) != size || len(c.GetData()) == 0 || len(c.GetData()) > size {
			t.Errorf("chunk %d of %d: index %d, final %v, %d bytes", i, len(chunks), c.GetChunkIndex(), c.GetIsFinal(), len(c.GetData()))
		}
		if age := time.Since(time.Unix(c.GetTimestamp(), 0)); age < -time.Second || age > time.Hour {
			t.Errorf("chunk %d was sent at %d", i, c.GetTimestamp())
		}
		text.Write(c.GetData())
	}
	return text.String()
}

func TestLegacyResults(t *testing.T) {
	conn, _ := serve(t, example(), remote.Limits{})
	for id, want := range map[session.ID]string{idNew: "new;main;work 40\nnew;main;wait<int> 2\n", idCanceled: "half;main 3\n", idRunning: "", idPending: ""} {
		for range 3 { // as often as it is asked for
			chunks, err := fetched(t, conn, id)
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			if got := joined(t, chunks, 64<<10); got != want {
				t.Errorf("%s: %q, want %q", id, got, want)
			}
		}
	}
	for id, want := range map[session.ID]struct {
		code codes.Code
		text string
	}{
		"nobody's":                             {codes.NotFound, "Session nobody's not found"},
		"":                                     {codes.NotFound, "Session  not found"},
		session.ID(strings.Repeat("x", 1<<20)): {codes.NotFound, "Session " + strings.Repeat("x", 64) + " not found"},
		idFailed:                               {codes.Internal, "Profiling failed: the kernel refused; run it as root"},
		idNever:                                {codes.Internal, "Profiling failed: the session was canceled before it began"},
		idEmpty:                                {codes.Internal, "Profiling failed: there were no samples"},
	} {
		chunks, err := fetched(t, conn, id)
		if s := status.Convert(err); len(chunks) != 0 || s.Code() != want.code || s.Message() != want.text {
			t.Errorf("%.40s: %d chunks and %v, want %v", id, len(chunks), err, want)
		}
	}
}

func TestLegacyChunks(t *testing.T) {
	for _, limit := range []int{0, 1, 1000} {
		size := limit
		if limit == 0 {
			size = 64 << 10
		}
		for _, bytes := range []int{1, size - 1, size, size + 1, 3 * size} {
			if bytes == 0 {
				continue
			}
			f := example()
			f.texts[idNew] = stacks(1+bytes/20, 0)[:bytes]
			conn, _ := serve(t, f, remote.Limits{ChunkSizeBytes: limit})
			chunks, err := fetched(t, conn, idNew)
			if err != nil {
				t.Fatal(err)
			}
			if n := (bytes + size - 1) / size; len(chunks) != n || joined(t, chunks, size) != f.texts[idNew] {
				t.Errorf("%d bytes by %d: %d chunks, want %d, or another text", bytes, size, len(chunks), n)
			}
		}
	}
}

// counted is an endless text that knows how much of it was read.
type counted struct{ read, size int64 }

func (c *counted) Read(p []byte) (int, error) {
	if c.read == c.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.size-c.read)
	for i := range p[:n] {
		p[i] = 'x'
	}
	c.read += n
	return int(n), nil
}

// The text must not be in memory as a whole: the service reads no further ahead
// of its client than connections buffer.
func TestLegacyResultsAreNotHeld(t *testing.T) {
	text := &counted{size: 100 << 20}
	out := &slowStream{ctx: t.Context(), text: text, t: t}
	f := example()
	f.bodies = map[session.ID]func() io.Reader{idNew: func() io.Reader { return text }}
	l := &legacyServer{runner: f, about: About{Limits: func() remote.Limits { return remote.Limits{} }}}
	if err := l.GetProfilingResults(&legacy.GetProfilingResultsRequest{SessionId: string(idNew)}, out); err != nil {
		t.Fatal(err)
	}
	if out.sent != text.size {
		t.Errorf("%d bytes were sent, want %d", out.sent, text.size)
	}
}

// slowStream stands where gRPC's flow control lets one message pass at a time.
type slowStream struct {
	grpc.ServerStream
	ctx  context.Context
	text *counted
	sent int64
	t    *testing.T
}

func (s *slowStream) Context() context.Context { return s.ctx }

func (s *slowStream) Send(c *legacy.ProfilingResultsChunk) error {
	if ahead := s.text.read - s.sent; ahead > 2*64<<10 {
		s.t.Errorf("%d bytes were read ahead", ahead)
	}
	s.sent += int64(len(c.GetData()))
	return nil
}

// What breaks while it is sent is an error, never a text that looks complete.
func TestLegacyResultsBreak(t *testing.T) {
	f := example()
	f.bodies = map[session.ID]func() io.Reader{idNew: func() io.Reader {
		return io.MultiReader(&counted{size: 100_000}, brokenReader{})
	}}
	conn, _ := serve(t, f, remote.Limits{})
	chunks, err := fetched(t, conn, idNew)
	if status.Code(err) != codes.Internal || status.Convert(err).Message() != "Profiling failed: disk on fire" {
		t.Errorf("%v", err)
	}
	for _, c := range chunks {
		if c.GetIsFinal() {
			t.Error("a chunk says that it is the last")
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func TestLegacyStatus(t *testing.T) {
	conn, unhealthy := serve(t, example(), remote.Limits{})
	out := new(legacy.GetStatusResponse)
	if err := conn.Invoke(t.Context(), methodStatus, &legacy.GetStatusRequest{}, out); err != nil {
		t.Fatal(err)
	}
	if !out.GetHealthy() || out.GetVersion() != "1.2.3" || out.GetActiveSessions() != 3 || out.GetMessage() != "eBPF Profiler Service is running" {
		t.Errorf("%v", out)
	}
	unhealthy.Store(true)
	if err := conn.Invoke(t.Context(), methodStatus, &legacy.GetStatusRequest{}, out); err != nil {
		t.Fatal(err)
	}
	if out.GetHealthy() || out.GetMessage() != "the service is stopping" {
		t.Errorf("%v", out)
	}
}

// Whatever bytes come, starting is answered in words, and only what is within
// the limits reaches the runner.
func FuzzLegacyRequests(f *testing.F) {
	f.Add([]byte{0x08, 0x92, 0x21, 0x10, 30, 0x18, 99})
	f.Add([]byte{0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x18, 1})
	f.Add(append([]byte{0x0a, 36}, idNew...))
	f.Fuzz(func(t *testing.T, data []byte) {
		runner := example()
		l := &legacyServer{runner: runner, about: About{Limits: func() remote.Limits { return remote.Limits{ChunkSizeBytes: 10} }}}
		var in legacy.StartProfilingRequest
		if proto.Unmarshal(data, &in) == nil {
			out, err := l.StartProfiling(t.Context(), &in)
			if err != nil || out.GetMessage() == "" || out.GetSuccess() != (out.GetSessionId() != "") || out.GetSuccess() != (len(runner.started) == 1) {
				t.Fatalf("%v: %v, %v", &in, out, err)
			}
			for _, s := range runner.started {
				if s.PIDs[0] <= 0 || s.Duration < time.Second || s.Duration > 300*time.Second || s.Frequency < 1 || s.Frequency > 1000 {
					t.Errorf("%v became %+v", &in, s)
				}
			}
		}
		var ask legacy.GetProfilingResultsRequest
		if proto.Unmarshal(data, &ask) == nil {
			err := l.GetProfilingResults(&ask, &slowStream{ctx: t.Context(), text: new(counted), t: t})
			if code := status.Code(err); code != codes.OK && code != codes.NotFound && code != codes.Internal {
				t.Errorf("%v: %v", &ask, err)
			}
		}
	})
}
