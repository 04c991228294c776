// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	methodCheck        = "/monitoring.AgentService/GetStatus"
	methodCheckResults = "/monitoring.AgentService/GetResults"
)

// object reads what must be one JSON object and nothing else.
func object(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(data, &o); err != nil || o == nil {
		t.Fatalf("no JSON object: %v: %.200s", err, data)
	}
	return o
}

func TestCheckStatus(t *testing.T) {
	conn, unhealthy := serve(t, example(), remote.Limits{MaxConcurrentSessions: 10, MaxQueuedSessions: 5})
	in := &monitoring.StatusRequest{ServiceName: "ebpf", ServiceType: "profiler", AgentId: "a1", PollerId: "p1", Details: "127.0.0.1:50084"}
	out := new(monitoring.StatusResponse)
	if err := conn.Invoke(t.Context(), methodCheck, in, out); err != nil {
		t.Fatal(err)
	}
	if !out.GetAvailable() || out.GetServiceName() != "ebpf" || out.GetServiceType() != "profiler" || out.GetAgentId() != "a1" || out.GetPollerId() != "p1" || out.GetResponseTime() <= 0 {
		t.Errorf("%v", out)
	}
	o := object(t, out.GetMessage())
	host := o["status"].(map[string]any)
	if _, err := time.Parse(time.RFC3339, host["timestamp"].(string)); err != nil {
		t.Error(err)
	}
	delete(host, "timestamp")
	got, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"active_sessions":3,"available":true,"healthy":true,` +
		`"limits":{"chunk_size_bytes":65536,"max_concurrent_sessions":10,"max_frequency_hz":1000,"max_queued_sessions":5,"max_session_duration_seconds":300},` +
		`"queued_sessions":2,"status":{"host_ip":"192.0.2.7","hostname":"web1"},"version":"1.2.3"}`; string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}

	in.ServiceType = "icmp"
	if err := conn.Invoke(t.Context(), methodCheck, in, out); err != nil {
		t.Fatal(err)
	}
	if o := object(t, out.GetMessage()); out.GetAvailable() || o["available"] != false || o["reason"] != `the profiler has no checks of service type "icmp"` {
		t.Errorf("%v", out)
	}
	unhealthy.Store(true)
	in.ServiceType = "grpc"
	if err := conn.Invoke(t.Context(), methodCheck, in, out); err != nil {
		t.Fatal(err)
	}
	if o := object(t, out.GetMessage()); out.GetAvailable() || o["healthy"] != false || o["reason"] != "the service is stopping" {
		t.Errorf("%v", out)
	}
}

func checkResults(t testing.TB, conn *grpc.ClientConn, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, map[string]any) {
	t.Helper()
	if in.ServiceType == "" {
		in.ServiceType = "profiler"
	}
	out := new(monitoring.ResultsResponse)
	if err := conn.Invoke(t.Context(), methodCheckResults, in, out); err != nil {
		t.Fatal(err)
	}
	return out, object(t, out.GetData())
}

func TestCheckResults(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	in := &monitoring.ResultsRequest{ServiceName: "ebpf", AgentId: "a1", PollerId: "p1", LastSequence: "something older"}
	out, o := checkResults(t, conn, in)
	if !out.GetAvailable() || out.GetServiceName() != "ebpf" || out.GetServiceType() != "profiler" || out.GetAgentId() != "a1" || out.GetPollerId() != "p1" ||
		out.GetResponseTime() <= 0 || time.Since(time.Unix(out.GetTimestamp(), 0)) > time.Hour || out.GetCurrentSequence() != string(idNew) || !out.GetHasNewData() {
		t.Errorf("%v", out)
	}
	if o["folded"] != f.texts[idNew] || o["folded_truncated"] != false || o["host_ip"] != "192.0.2.7" || o["hostname"] != "web1" || o["session_id"] != string(idNew) || o["running_session_id"] != string(idPending) {
		t.Errorf("%s", out.GetData())
	}
	if got, want := fmt.Sprint(o["folded_size"]), "map[samples:42 samples_sent:42 stacks:2 stacks_sent:2]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if c := out.GetSweepCompletion(); c.GetStatus() != monitoring.SweepCompletionStatus_IN_PROGRESS || c.GetTargetSequence() != string(idPending) || c.GetTotalTargets() != 1 {
		t.Errorf("%v", c)
	}

	in.LastSequence = string(idNew) // real pollers send what comes to core each time: so it must be small
	again, o := checkResults(t, conn, in)
	if again.GetHasNewData() || again.GetCurrentSequence() != string(idNew) || o["folded"] != nil || o["message"] != "nothing has ended since last_sequence" {
		t.Errorf("%v", again)
	}
}

// Which session details ask for, and what is answered where there is no text.
func TestCheckDetails(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	const inProgress, completed, failed, notStarted = monitoring.SweepCompletionStatus_IN_PROGRESS, monitoring.SweepCompletionStatus_COMPLETED,
		monitoring.SweepCompletionStatus_FAILED, monitoring.SweepCompletionStatus_NOT_STARTED
	for _, c := range []struct {
		details  string
		sequence session.ID
		message  any
		status   monitoring.SweepCompletionStatus_Status
	}{
		{"127.0.0.1:50084", idNew, nil, inProgress},
		{" [::1]:50084 ", idNew, nil, inProgress},
		{"{}", idNew, nil, inProgress},
		{`{"pid": 41}`, idOld, nil, completed},
		{`{"session_id": "` + string(idOld) + `"}`, idOld, nil, completed},
		{`{"pid": 43}`, idCanceled, nil, completed},
		{`{"pid": 42}`, idFailed, "the kernel refused; run it as root", failed},
		{`{"pid": 44}`, idNever, "the session was canceled before it began", completed},
		{`{"pid": 47}`, "", "no session has ended yet", inProgress},
		{`{"pid": 9}`, "", "no session has ended yet", notStarted},
	} {
		out, o := checkResults(t, conn, &monitoring.ResultsRequest{Details: c.details})
		want := f.texts[c.sequence]
		if got, _ := o["folded"].(string); !out.GetAvailable() || session.ID(out.GetCurrentSequence()) != c.sequence || out.GetHasNewData() != (c.sequence != "") ||
			got != want || o["message"] != c.message || out.GetSweepCompletion().GetStatus() != c.status {
			t.Errorf("%s: %v", c.details, out)
		}
	}
	for details, code := range map[string]string{
		`{"session_id": "nobody's"}`: "no_such_session", "a host": "bad_details", `{"pid": -1}`: "bad_details", `{"pid": 1, "session_id": "x"}`: "bad_details",
		`{"pid": 1} {}`: "bad_details", `{"pod": 1}`: "bad_details", `{`: "bad_details", string(idOld): "bad_details", "host:port": "bad_details",
	} {
		out, o := checkResults(t, conn, &monitoring.ResultsRequest{Details: details})
		if text, _ := o["error"].(string); out.GetAvailable() || o["code"] != code || text == "" || out.GetCurrentSequence() != "" || out.GetHasNewData() {
			t.Errorf("%s: %v", details, out)
		}
	}
}

func TestCheckOfOtherTypes(t *testing.T) {
	conn, _ := serve(t, example(), remote.Limits{})
	in := &monitoring.ResultsRequest{ServiceType: "sweep"}
	err := conn.Invoke(t.Context(), methodCheckResults, in, new(monitoring.ResultsResponse))
	if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != "GetResults not supported for service type 'sweep'" {
		t.Errorf("%v", err)
	}
	_, err = streamed(t, conn, in)
	if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != "StreamResults not supported for service type 'sweep'" {
		t.Errorf("%v", err)
	}
}

// What is too large keeps its hottest stacks, in their order, and stays below 3
// MiB also in the envelope in which a poller sends it on.
func TestCheckResultsTruncated(t *testing.T) {
	const n = 60_000
	f := example()
	f.texts[idNew] = stacks(n, 4)
	conn, _ := serve(t, f, remote.Limits{})
	out, o := checkResults(t, conn, &monitoring.ResultsRequest{})
	envelope, err := json.Marshal(map[string]any{"poller_id": "p", "agent_id": "a", "partition": "default", "service_type": "profiler", "service_name": "ebpf", "data": json.RawMessage(out.GetData())})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.texts[idNew]) < 6<<20 || len(envelope) >= 3<<20 || len(envelope) < 5<<19 {
		t.Errorf("%d bytes are %d, %d in the envelope", len(f.texts[idNew]), len(out.GetData()), len(envelope))
	}
	lines := strings.SplitAfter(o["folded"].(string), "\n")
	lines = lines[:len(lines)-1]
	all := slices.Collect(strings.Lines(f.texts[idNew]))
	if !slices.Equal(lines, all[n-len(lines):]) { // counts rise, so the last ones are the hottest
		t.Error("other stacks than the hottest were kept")
	}
	var sent uint64
	for i := range lines {
		sent += uint64(n - i)
	}
	want := fmt.Sprint(map[string]any{"stacks": float64(n), "stacks_sent": float64(len(lines)), "samples": float64(n * (n + 1) / 2), "samples_sent": float64(sent)})
	if fmt.Sprint(o["folded_size"]) != want || o["folded_truncated"] != true {
		t.Errorf("%v, want %s", o["folded_size"], want)
	}
	if w := o["whole"].(map[string]any); w["method"] != methodResults || w["session_id"] != string(idNew) {
		t.Errorf("%v", w)
	}
}

// A session of thousands of targets is described by a few.
func TestCheckResultsOfManyTargets(t *testing.T) {
	f := example()
	s := &f.sessions[5]
	for pid := range 4096 {
		s.Targets = append(s.Targets, target(pid, strings.Repeat("<", 4096)))
	}
	conn, _ := serve(t, f, remote.Limits{})
	out, o := checkResults(t, conn, &monitoring.ResultsRequest{})
	if targets := o["session"].(map[string]any)["targets"].([]any); len(targets) != mostTargets || len(out.GetData()) > 1<<20 {
		t.Errorf("%d targets, %d bytes", len(targets), len(out.GetData()))
	}
	if len(s.Targets) != 4096 {
		t.Error("the session itself was changed")
	}
}

func streamed(t testing.TB, conn *grpc.ClientConn, in *monitoring.ResultsRequest) (chunks []*monitoring.ResultsChunk, _ error) {
	t.Helper()
	stream, err := monitoring.NewAgentServiceClient(conn).StreamResults(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
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

// merged reads a stream as pollers do since August 20, 2025: each chunk is an
// object, and the arrays hosts of all make one.
func merged(t testing.TB, chunks []*monitoring.ResultsChunk) (hosts []map[string]any) {
	t.Helper()
	for i, c := range chunks {
		if len(c.GetData()) >= 3<<20 || int(c.GetChunkIndex()) != i || int(c.GetTotalChunks()) != len(chunks) || c.GetIsFinal() != (i == len(chunks)-1) {
			t.Errorf("chunk %d of %d: %d bytes, %d of %d, final %v", i, len(chunks), len(c.GetData()), c.GetChunkIndex(), c.GetTotalChunks(), c.GetIsFinal())
		}
		for _, h := range object(t, c.GetData())["hosts"].([]any) {
			hosts = append(hosts, h.(map[string]any))
		}
	}
	return hosts
}

func TestCheckStream(t *testing.T) {
	f := example()
	f.texts[idOld] = stacks(60_000, 4)
	conn, _ := serve(t, f, remote.Limits{})
	for _, c := range []struct {
		in     *monitoring.ResultsRequest
		chunks int
		id     session.ID
		text   string
	}{
		{&monitoring.ResultsRequest{}, 1, idNew, f.texts[idNew]},
		{&monitoring.ResultsRequest{ServiceType: "grpc", Details: "[::1]:50084"}, 1, idNew, f.texts[idNew]},
		{&monitoring.ResultsRequest{LastSequence: string(idNew)}, 1, idNew, ""},
		{&monitoring.ResultsRequest{Details: `{"pid":41}`}, 11, idOld, f.texts[idOld]},
		{&monitoring.ResultsRequest{Details: `{"pid":44}`}, 1, idNever, ""},
		{&monitoring.ResultsRequest{Details: `{"pid":45}`}, 1, idEmpty, ""},
		{&monitoring.ResultsRequest{Details: `{"pid":47}`}, 1, "", ""},
	} {
		chunks, err := streamed(t, conn, c.in)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for i, h := range merged(t, chunks) {
			part, _ := h["folded"].(string)
			text.WriteString(part)
			if c.chunks > 1 && (h["piece"] != float64(i+1) || h["pieces"] != float64(c.chunks) || h["session_id"] != string(c.id)) {
				t.Errorf("%v: piece %d is %v of %v", c.in, i, h["piece"], h["pieces"])
			}
		}
		if len(chunks) != c.chunks || chunks[0].GetCurrentSequence() != string(c.id) || text.String() != c.text {
			t.Errorf("%v: %d chunks of %q with %d bytes, want %d", c.in, len(chunks), chunks[0].GetCurrentSequence(), text.Len(), c.chunks)
		}
	}
	chunks, err := streamed(t, conn, &monitoring.ResultsRequest{Details: "?"})
	if err != nil {
		t.Fatal(err)
	}
	if h := merged(t, chunks); len(h) != 1 || h[0]["code"] != "bad_details" || h[0]["available"] != false || chunks[0].GetCurrentSequence() != "" {
		t.Errorf("%v", h)
	}
}

// With its text put into its place an object is as encoding/json writes it, and
// what pollers can carry in one chunk is not cut.
func TestTextInItsPlace(t *testing.T) {
	r := &results{Available: true, Hostname: `"folded":"\u0000"`, Error: "\x00", SessionID: idNew, Folded: "main;a<b>&\"c\\ 1\nmain;\xff\u2028 2\n\nmain;x 3"}
	want, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := encoded(r, r); err != nil || string(got) != string(want) {
		t.Errorf("%v\n%s\n%s", err, got, want)
	}
	for _, c := range []struct{ stacks, chunks int }{{13_000, 1}, {16_000, 1}, {40_000, 7}} {
		f := example()
		f.texts[idNew] = stacks(c.stacks, 4)
		conn, _ := serve(t, f, remote.Limits{})
		if chunks, err := streamed(t, conn, &monitoring.ResultsRequest{}); err != nil || len(chunks) != c.chunks {
			t.Errorf("%d bytes are sent in %d chunks: %v", len(f.texts[idNew]), len(chunks), err)
		}
	}
}

// Whatever a line is made of, no more room is taken for it than was counted.
func FuzzJSONSize(f *testing.F) {
	f.Add("main;std::vector<int>;\"\\&\x00\x7f\u2028\xff… 12")
	f.Fuzz(func(t *testing.T, line string) {
		data, err := json.Marshal(line + "\n")
		if err != nil {
			t.Fatal(err)
		}
		n := jsonSize(line + "\n")
		if len(data)-2 > n || !strings.HasSuffix(line, "\n") && jsonSize([]byte(line)) != n {
			t.Errorf("%q takes %d, counted were %d", line, len(data)-2, n)
		}
	})
}

// The kept stacks are the hottest for which there is room, however they come.
func FuzzHottest(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 5, 5, 5, 9}, uint16(40))
	f.Fuzz(func(t *testing.T, counts []byte, room uint16) {
		var text strings.Builder
		var all []hotLine
		for i, c := range counts {
			line := fmt.Sprintf("main;f%d %d", i, c)
			text.WriteString(line + "\n")
			all = append(all, hotLine{line, uint64(c), jsonSize([]byte(line)), i + 1})
		}
		h := hottest{room: int(room)}
		if err := h.read(strings.NewReader(text.String())); err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, l := range h.kept {
			size += l.size
			if strconv.FormatUint(l.count, 10) != l.text[strings.LastIndexByte(l.text, ' ')+1:] {
				t.Errorf("%q counts %d", l.text, l.count)
			}
		}
		if size > int(room) || h.stacks != len(counts) {
			t.Errorf("%d bytes in room for %d, %d stacks of %d", size, room, h.stacks, len(counts))
		}
		slices.SortFunc(h.kept, hotter)
		slices.SortFunc(all, hotter)
		i := 0
		for _, l := range all {
			if l.size > int(room) || l.count == 0 {
				continue
			}
			if i == len(h.kept) {
				if size+l.size <= int(room) {
					t.Errorf("there was room for %q", l.text)
				}
				return
			}
			if h.kept[i] != l {
				t.Fatalf("%q was kept instead of %q", h.kept[i].text, l.text)
			}
			i++
		}
	})
}

func FuzzDetails(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1:50084", `{"pid":42}`, `{"session_id":"x"}`, `{"pid":1}{`, `{"PID":1e3}`, "{\"session_id\":\"\xff\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDetails(text)
		if err != nil {
			if !errors.Is(err, session.ErrInvalid) || d != (details{}) {
				t.Errorf("%q: %+v and %v", text, d, err)
			}
			return
		}
		if d.PID < 0 || d.PID > 0 && d.SessionID != "" {
			t.Errorf("%q is %+v", text, d)
		}
	})
}
