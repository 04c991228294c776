// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/profile"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// legacyServer is the interface of ServiceRadar's first profiler. Its texts
// and codes are a contract with clients that were written for it.
type legacyServer struct {
	legacy.UnimplementedProfilerServiceServer
	runner session.Runner
	about  About
}

// StartProfiling answers what cannot be done with success=false, not with a
// gRPC error: so its clients expect it. What a client may not do is another
// matter.
func (l *legacyServer) StartProfiling(ctx context.Context, in *legacy.StartProfilingRequest) (*legacy.StartProfilingResponse, error) {
	if refusal := l.refusal(in); refusal != "" {
		return &legacy.StartProfilingResponse{Message: refusal}, nil
	}
	s, err := l.runner.Start(ctx, session.Spec{
		PIDs:      []int{int(in.GetProcessId())},
		Duration:  time.Duration(in.GetDurationSeconds()) * time.Second,
		Frequency: profile.Frequency(in.GetFrequency()),
	})
	var e *session.Error
	switch {
	case err == nil:
		return &legacy.StartProfilingResponse{
			Success:   true,
			Message:   fmt.Sprintf("Profiling started for PID %d", in.GetProcessId()),
			SessionId: string(s.ID),
		}, nil
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case notAllowed(err) != nil:
		return nil, notAllowed(err)
	case errors.As(err, &e) && errors.Is(e.Kind, fs.ErrNotExist): // not some file that is missing
		return &legacy.StartProfilingResponse{Message: fmt.Sprintf("Process %d not found", in.GetProcessId())}, nil
	}
	return &legacy.StartProfilingResponse{Message: remote.Short(err.Error())}, nil
}

// refusal says what is wrong with a request; the order is part of the contract.
func (l *legacyServer) refusal(in *legacy.StartProfilingRequest) string {
	most := l.about.limits()
	switch {
	case in.GetProcessId() <= 0:
		return "Invalid process ID"
	case in.GetDurationSeconds() < 1 || int(in.GetDurationSeconds()) > most.MaxSessionDurationSeconds:
		return fmt.Sprintf("Duration must be between 1 and %d seconds", most.MaxSessionDurationSeconds)
	case in.GetFrequency() < 1 || profile.Frequency(in.GetFrequency()) > most.MaxFrequencyHz:
		return fmt.Sprintf("Frequency must be between 1 and %d Hz", most.MaxFrequencyHz)
	}
	return ""
}

// GetProfilingResults sends the profile as folded text. The stream of a session
// that has not ended is empty: its clients ask again.
func (l *legacyServer) GetProfilingResults(in *legacy.GetProfilingResultsRequest, out grpc.ServerStreamingServer[legacy.ProfilingResultsChunk]) error {
	ctx, id := out.Context(), session.ID(in.GetSessionId())
	s, err := l.runner.Get(ctx, id)
	if err != nil {
		return profilingFailed(ctx, id, err)
	}
	if !s.State.Final() {
		return nil
	}
	if s.State == session.StateFailed && s.Err != nil {
		return profilingFailed(ctx, id, s.Err)
	}
	content, err := l.runner.Fetch(ctx, id, session.Want{Format: formatFolded})
	if err != nil {
		return profilingFailed(ctx, id, err)
	}
	defer content.Body.Close()
	if err := sendText(out, content.Body, l.about.limits().ChunkSizeBytes); err != nil {
		return profilingFailed(ctx, id, err)
	}
	return nil
}

// formatFolded is the name of folded text in package encoding.
const formatFolded = "folded"

// errNoText is why a profile without samples is a failure here: an empty
// stream would tell the client to ask again, for ever.
var errNoText = errors.New("there were no samples")

// sendText sends all of r. It reads one chunk ahead, because the last one says
// that it is.
func sendText(out grpc.ServerStreamingServer[legacy.ProfilingResultsChunk], r io.Reader, size int) error {
	next, err := readChunk(r, size)
	if err == nil && len(next) == 0 {
		err = errNoText
	}
	for i := int32(0); err == nil && len(next) > 0; i++ {
		data := next
		if next, err = readChunk(r, size); err != nil {
			break
		}
		err = out.Send(&legacy.ProfilingResultsChunk{Data: data, IsFinal: len(next) == 0, ChunkIndex: i, Timestamp: time.Now().Unix()})
	}
	return err
}

// readChunk reads size bytes, or what is left; nothing at the end. Each chunk
// is new memory, because a message belongs to gRPC once it is sent.
func readChunk(r io.Reader, size int) ([]byte, error) {
	data := make([]byte, size)
	n, err := io.ReadFull(r, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return data[:n], err
}

// profilingFailed is the gRPC error that says why there is no profile.
func profilingFailed(ctx context.Context, id session.ID, err error) error {
	switch {
	case errors.Is(err, session.ErrNotFound):
		return status.Errorf(codes.NotFound, "Session %.64s not found", id) // it may be any text, of any length
	case ctx.Err() != nil: // not err, which may tell that a session was canceled
		return status.FromContextError(ctx.Err()).Err()
	case notAllowed(err) != nil:
		return notAllowed(err)
	}
	return status.Errorf(codes.Internal, "Profiling failed: %s", remote.Short(err.Error()))
}

// notAllowed is the gRPC error for who may not do what he asks for, or asks for
// it too often; nil if it is something else that went wrong. ServiceRadar's
// agents put the text into JSON as it is, so it has no quotes.
func notAllowed(err error) error {
	var e *session.Error
	if !errors.As(err, &e) {
		return nil
	}
	text := strings.ReplaceAll(remote.Short(e.Error()), `"`, "'")
	switch {
	case errors.Is(e, session.ErrForbidden):
		return status.Error(codes.PermissionDenied, text)
	case e.Code == "rate_limited":
		return status.Error(codes.ResourceExhausted, text)
	}
	return nil
}

// GetStatus tells what it always told, unless the service cannot take sessions.
func (l *legacyServer) GetStatus(context.Context, *legacy.GetStatusRequest) (*legacy.GetStatusResponse, error) {
	h := l.about.Health()
	message := "eBPF Profiler Service is running"
	if !h.Healthy {
		message = h.Reason
	}
	return &legacy.GetStatusResponse{Healthy: h.Healthy, Version: l.about.Version, ActiveSessions: int32(h.Running), Message: message}, nil
}
