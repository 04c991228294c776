// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress; what is too large is so before that
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	maxRequest = 1 << 20 // in one message; a spec with all targets it may have takes 10 KiB
	maxStreams = 128     // at once on one connection; more wait at the client
)

// gRPC's own pool has no buffers between 32 KiB and 1 MiB, so that each chunk of
// 64 KiB on its way takes 1 MiB, and a client that reads slowly costs the server
// 2.6 MB. It can be replaced for the whole program only, and only this early.
func init() {
	experimental.SetDefaultBufferPool(mem.NewTieredBufferPool(256, 4<<10, 16<<10, 32<<10, DefaultChunkSize+4<<10, 1<<20))
}

// ServerOptions are what each of our services has, beside its credentials:
// bounds to what one client can take, and answers to calls that panic. Faults
// of ours are written to the log.
//
// Connections are kept as ServiceRadar's services do it, but clients may ping
// more often than every 120 s: ours do, and one of theirs that arrives a little
// early is no offense.
func ServerOptions(log *slog.Logger) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(32 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.StaticStreamWindowSize(64 << 10), // requests are small
		grpc.StaticConnWindowSize(1 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle:     10 * time.Minute,
			MaxConnectionAge:      24 * time.Hour,
			MaxConnectionAgeGrace: 10 * time.Minute, // then streams are cut, and clients resume them
			Time:                  120 * time.Second,
			Timeout:               20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 3, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
			defer func() { err = survive(ctx, log, info.FullMethod, request, recover(), err) }()
			return handle(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			asked := &askedStream{ServerStream: stream}
			defer func() { err = survive(stream.Context(), log, info.FullMethod, asked.request, recover(), err) }()
			return handle(srv, asked)
		}),
	}
}

// askedStream remembers what was asked.
type askedStream struct {
	grpc.ServerStream
	request any // the first message
}

// RecvMsg is of gRPC's interface.
func (s *askedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if s.request == nil && err == nil {
		s.request = m
	}
	return err
}

// concerning is a log whose lines say which call they are about, and which
// session.
func concerning(log *slog.Logger, method string, request any) *slog.Logger {
	log = log.With("method", method)
	switch of := request.(type) {
	case interface{ GetId() string }:
		log = log.With("session", clipped(of.GetId()))
	case interface{ GetSessionId() string }:
		log = log.With("session", clipped(of.GetSessionId()))
	case interface{ GetSpec() *sessionv1.Spec }:
		log = log.With("request_id", clipped(of.GetSpec().GetRequestId()))
	}
	return log
}

// clipped bounds what a stranger sent.
func clipped(s string) string { return s[:min(len(s), 128)] }

// unreadable is how gRPC begins what it says of a message that is none. It is
// no fault of ours, and whoever sends many may not fill the log with it.
const unreadable = "grpc: failed to unmarshal the received message"

// survive turns a panic into an answer, and logs what is a fault of ours.
func survive(ctx context.Context, log *slog.Logger, method string, request, panicked any, err error) error {
	if panicked != nil {
		concerning(log, method, request).ErrorContext(ctx, "a call panicked", "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		return statusOf(&session.Error{Code: codeNames[codes.Internal], Kind: errInternal,
			Problem: "the service met a fault of its own", Remedy: "its log has the details; please report them"}).Err()
	}
	s, ok := status.FromError(err)
	if s.Code() == codes.Internal && strings.HasPrefix(s.Message(), unreadable) {
		return status.Error(codes.InvalidArgument, s.Message())
	}
	if !ok || s.Code() == codes.Internal || s.Code() == codes.Unknown {
		concerning(log, method, request).ErrorContext(ctx, "a call failed", "error", err)
	}
	return err
}
