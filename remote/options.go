// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

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
			defer func() { err = survive(ctx, log, info.FullMethod, recover(), err) }()
			return handle(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			defer func() { err = survive(stream.Context(), log, info.FullMethod, recover(), err) }()
			return handle(srv, stream)
		}),
	}
}

// survive turns a panic into an answer, and logs what is a fault of ours.
func survive(ctx context.Context, log *slog.Logger, method string, panicked any, err error) error {
	if panicked != nil {
		log.ErrorContext(ctx, "a call panicked", "method", method, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
		return statusOf(&session.Error{Code: codeNames[codes.Internal], Kind: errInternal,
			Problem: "the service met a fault of its own", Remedy: "its log has the details; please report them"}).Err()
	}
	if s, ok := status.FromError(err); !ok || s.Code() == codes.Internal || s.Code() == codes.Unknown {
		log.ErrorContext(ctx, "a call failed", "method", method, "error", err)
	}
	return err
}
