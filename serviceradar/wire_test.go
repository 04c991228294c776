// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
)

// wire is ServiceRadar's interface as others have compiled it in, as
// docs/serviceradar.md has it too: never made from our *.proto.
var wire = map[string]string{
	"profiler.StartProfilingRequest":      "1 int32 process_id, 2 int32 duration_seconds, 3 int32 frequency",
	"profiler.StartProfilingResponse":     "1 bool success, 2 string message, 3 string session_id",
	"profiler.GetProfilingResultsRequest": "1 string session_id",
	"profiler.ProfilingResultsChunk":      "1 bytes data, 2 bool is_final, 3 int32 chunk_index, 4 int64 timestamp",
	"profiler.GetStatusRequest":           "",
	"profiler.GetStatusResponse":          "1 bool healthy, 2 string version, 3 int32 active_sessions, 4 string message",

	"monitoring.StatusRequest":  "1 string service_name, 2 string service_type, 3 string agent_id, 4 string poller_id, 5 string details, 6 int32 port",
	"monitoring.StatusResponse": "1 bool available, 2 bytes message, 3 string service_name, 4 string service_type, 5 int64 response_time, 6 string agent_id, 7 string poller_id",
	"monitoring.ResultsRequest": "1 string service_name, 2 string service_type, 3 string agent_id, 4 string poller_id, 5 string details, 6 string last_sequence, " +
		"7 monitoring.SweepCompletionStatus completion_status",
	"monitoring.ResultsResponse": "1 bool available, 2 bytes data, 3 string service_name, 4 string service_type, 5 int64 response_time, 6 string agent_id, 7 string poller_id, " +
		"8 int64 timestamp, 9 string current_sequence, 10 bool has_new_data, 11 monitoring.SweepCompletionStatus sweep_completion",
	"monitoring.ResultsChunk": "1 bytes data, 2 bool is_final, 3 int32 chunk_index, 4 int32 total_chunks, 5 string current_sequence, 6 int64 timestamp",
	"monitoring.PollerStatusRequest": "1 repeated monitoring.ServiceStatus services, 2 string poller_id, 3 string agent_id, 4 int64 timestamp, 5 string partition, " +
		"6 string source_ip",
	"monitoring.PollerStatusResponse": "1 bool received",
	"monitoring.ServiceStatus": "1 string service_name, 2 bool available, 3 bytes message, 4 string service_type, 5 int64 response_time, 6 string agent_id, 7 string poller_id, " +
		"8 string partition, 9 string source",
	"monitoring.PollerStatusChunk": "1 repeated monitoring.ServiceStatus services, 2 string poller_id, 3 string agent_id, 4 int64 timestamp, 5 string partition, " +
		"6 string source_ip, 7 bool is_final, 8 int32 chunk_index, 9 int32 total_chunks",
	"monitoring.SweepCompletionStatus": "1 monitoring.SweepCompletionStatus.Status status, 2 int64 completion_time, 3 string target_sequence, 4 int32 total_targets, " +
		"5 int32 completed_targets, 6 string error_message",
	"monitoring.SweepCompletionStatus.Status": "UNKNOWN 0, NOT_STARTED 1, IN_PROGRESS 2, COMPLETED 3, FAILED 4",

	"profiler.ProfilerService": "StartProfiling(profiler.StartProfilingRequest) profiler.StartProfilingResponse, " +
		"GetProfilingResults(profiler.GetProfilingResultsRequest) stream profiler.ProfilingResultsChunk, " +
		"GetStatus(profiler.GetStatusRequest) profiler.GetStatusResponse",
	"monitoring.AgentService": "GetStatus(monitoring.StatusRequest) monitoring.StatusResponse, GetResults(monitoring.ResultsRequest) monitoring.ResultsResponse, " +
		"StreamResults(monitoring.ResultsRequest) stream monitoring.ResultsChunk",
	"monitoring.PollerService": "ReportStatus(monitoring.PollerStatusRequest) monitoring.PollerStatusResponse, " +
		"StreamStatus(stream monitoring.PollerStatusChunk) monitoring.PollerStatusResponse",
}

// later are the numbers that later versions of ServiceRadar use for other things.
var later = map[string][]protoreflect.FieldNumber{
	"monitoring.PollerStatusRequest": {7}, "monitoring.ServiceStatus": {10}, "monitoring.PollerStatusChunk": {10}, "monitoring.ResultsResponse": {12, 13},
}

// What old clients know must stay where it is; what is added comes after it.
func TestNumbersOnTheWire(t *testing.T) {
	ours := map[string]string{}
	reserved := map[string]protoreflect.FieldRanges{}
	for _, f := range []protoreflect.FileDescriptor{legacy.File_profiler_profiler_proto, monitoring.File_monitoring_monitoring_proto} {
		for i := range f.Messages().Len() {
			m := f.Messages().Get(i)
			ours[string(m.FullName())], reserved[string(m.FullName())] = fields(m), m.ReservedRanges()
			for j := range m.Enums().Len() {
				e := m.Enums().Get(j)
				ours[string(e.FullName())] = values(e)
			}
		}
		for i := range f.Services().Len() {
			ours[string(f.Services().Get(i).FullName())] = methods(f.Services().Get(i))
		}
	}
	page, err := os.ReadFile("../docs/serviceradar.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range wire {
		if row := fmt.Sprintf("| `%s` | `%s` |", name, want); want != "" && !strings.Contains(string(page), row) {
			t.Errorf("docs/serviceradar.md does not say %s", row)
		}
		if got := ours[name]; got != want && !strings.HasPrefix(got, want+", ") {
			t.Errorf("%s:\n%s\nwant, and after it only what is new:\n%s", name, got, want)
		}
	}
	for name, numbers := range later {
		for _, n := range numbers {
			if r := reserved[name]; r == nil || !r.Has(n) {
				t.Errorf("%s: %d is not reserved", name, n)
			}
		}
	}
}

func fields(m protoreflect.MessageDescriptor) string {
	var all []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		kind := f.Kind().String()
		switch f.Kind() {
		case protoreflect.MessageKind:
			kind = string(f.Message().FullName())
		case protoreflect.EnumKind:
			kind = string(f.Enum().FullName())
		}
		if f.IsList() {
			kind = "repeated " + kind
		}
		all = append(all, fmt.Sprintf("%d %s %s", f.Number(), kind, f.Name()))
	}
	return strings.Join(all, ", ")
}

func values(e protoreflect.EnumDescriptor) string {
	var all []string
	for i := range e.Values().Len() {
		all = append(all, fmt.Sprintf("%s %d", e.Values().Get(i).Name(), e.Values().Get(i).Number()))
	}
	return strings.Join(all, ", ")
}

func methods(s protoreflect.ServiceDescriptor) string {
	var all []string
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		in, out := string(m.Input().FullName()), string(m.Output().FullName())
		if m.IsStreamingClient() {
			in = "stream " + in
		}
		if m.IsStreamingServer() {
			out = "stream " + out
		}
		all = append(all, fmt.Sprintf("%s(%s) %s", m.Name(), in, out))
	}
	return strings.Join(all, ", ")
}

// rawCodec passes bytes through: what is on the wire is what the test wrote.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = slices.Clone(data); return nil }
func (rawCodec) Name() string                       { return "proto" }

// number and bytesField are protobuf's encoding by hand: a tag of field number
// and wire type (0 varint, 2 length and bytes), then the value.
func number(field, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, field<<3), value)
}

func bytesField(field uint64, value string) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, field<<3|2), uint64(len(value))), value...)
}

// fieldsOf takes an answer apart: by field number its last value.
func fieldsOf(t testing.TB, data []byte) (numbers map[uint64]uint64, texts map[uint64]string) {
	t.Helper()
	numbers, texts = map[uint64]uint64{}, map[uint64]string{}
	in := bytes.NewReader(data)
	for in.Len() > 0 {
		tag, err := binary.ReadUvarint(in)
		if err != nil {
			t.Fatal(err)
		}
		value, err := binary.ReadUvarint(in)
		if err != nil {
			t.Fatal(err)
		}
		switch tag & 7 {
		case 0:
			numbers[tag>>3] = value
		case 2:
			text := make([]byte, value)
			if _, err := io.ReadFull(in, text); err != nil {
				t.Fatal(err)
			}
			texts[tag>>3] = string(text)
		default:
			t.Fatalf("wire type %d", tag&7)
		}
	}
	return numbers, texts
}

func rawCall(t testing.TB, conn *grpc.ClientConn, method string, in []byte) (numbers map[uint64]uint64, texts map[uint64]string) {
	t.Helper()
	var out []byte
	if err := conn.Invoke(t.Context(), method, &in, &out, grpc.ForceCodec(rawCodec{})); err != nil {
		t.Fatal(err)
	}
	return fieldsOf(t, out)
}

// The same bytes that a client of 2025 sends and reads.
func TestLegacyRawBytes(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	request := slices.Concat(number(1, 4242), number(2, 30), number(3, 99))
	if want := []byte{0x08, 0x92, 0x21, 0x10, 30, 0x18, 99}; !bytes.Equal(request, want) {
		t.Fatalf("%x, want %x", request, want)
	}
	numbers, texts := rawCall(t, conn, methodStart, request)
	if numbers[1] != 1 || texts[2] != "Profiling started for PID 4242" || texts[3] != "3c6ba1c8-7a3f-4b1c-9c4e-0c7d0d6d7a11" || len(numbers)+len(texts) != 3 {
		t.Errorf("%v %v", numbers, texts)
	}
	if s := f.started[0]; s.PIDs[0] != 4242 || s.Duration.Seconds() != 30 || s.Frequency != 99 {
		t.Errorf("%+v", s)
	}
	numbers, texts = rawCall(t, conn, methodStart, nil) // zeros are not sent
	if len(numbers) != 0 || texts[2] != "Invalid process ID" || len(texts) != 1 {
		t.Errorf("%v %v", numbers, texts)
	}
	numbers, texts = rawCall(t, conn, methodStatus, nil)
	if numbers[1] != 1 || texts[2] != "1.2.3" || numbers[3] != 3 || texts[4] != "eBPF Profiler Service is running" {
		t.Errorf("%v %v", numbers, texts)
	}

	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, methodResults, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	ask := bytesField(1, string(idNew))
	if err := errors.Join(stream.SendMsg(&ask), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	var chunk []byte
	if err := stream.RecvMsg(&chunk); err != nil {
		t.Fatal(err)
	}
	numbers, texts = fieldsOf(t, chunk)
	if texts[1] != f.texts[idNew] || numbers[2] != 1 || numbers[3] != 0 || numbers[4] == 0 {
		t.Errorf("%v %v", numbers, texts)
	}
	if err := stream.RecvMsg(&chunk); !errors.Is(err, io.EOF) {
		t.Errorf("after the last chunk: %v", err)
	}
}

// A check as a poller sends it, in bytes.
func TestCheckRawBytes(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	ask := slices.Concat(bytesField(1, "ebpf"), bytesField(2, "profiler"), bytesField(3, "a1"), bytesField(4, "p1"), bytesField(5, "127.0.0.1:50084"))
	numbers, texts := rawCall(t, conn, methodCheck, ask)
	if numbers[1] != 1 || object(t, []byte(texts[2]))["version"] != "1.2.3" || texts[3] != "ebpf" || texts[4] != "profiler" || numbers[5] == 0 || texts[6] != "a1" || texts[7] != "p1" {
		t.Errorf("%v %v", numbers, texts)
	}
	numbers, texts = rawCall(t, conn, methodCheckResults, slices.Concat(ask, bytesField(6, "an older one")))
	if numbers[1] != 1 || object(t, []byte(texts[2]))["folded"] != f.texts[idNew] || texts[3] != "ebpf" || texts[4] != "profiler" || numbers[5] == 0 || texts[6] != "a1" ||
		texts[7] != "p1" || numbers[8] == 0 || texts[9] != string(idNew) || numbers[10] != 1 {
		t.Errorf("%v %v", numbers, texts)
	}
	if done, ids := fieldsOf(t, []byte(texts[11])); done[1] != 2 || ids[3] != string(idPending) || done[4] != 1 {
		t.Errorf("%v %v", done, ids)
	}
}
