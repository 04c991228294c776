// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// connections counts those that are open. It is a stats.Handler.
type connections struct {
	open   atomic.Int64
	failed func(code string) // is told of calls that were not answered with OK
}

// HandleConn counts.
func (c *connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.open.Add(1)
	case *stats.ConnEnd:
		c.open.Add(-1)
	}
}

// TagConn is of gRPC's interface, as the next two.
func (c *connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC does nothing.
func (c *connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts what was not answered with OK.
func (c *connections) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok && end.Error != nil {
		c.failed(status.Code(end.Error).String())
	}
}

// whileAny calls alone when nobody has been connected for some time.
func (c *connections) whileAny(ctx context.Context, end func()) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.open.Load() > 0 {
			last = time.Now()
		} else if time.Since(last) >= alone {
			end()
			return
		}
	}
}

// counted are credentials that tell of each connection that they refuse.
type counted struct {
	credentials.TransportCredentials
	refused func(code string)
}

// ServerHandshake makes sure of the client.
func (c *counted) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		code := "handshake_failed"
		var e *auth.Error
		if errors.As(err, &e) {
			code = e.Code
		}
		c.refused(code)
	}
	return conn, info, err
}

// Clone copies, as gRPC wants.
func (c *counted) Clone() credentials.TransportCredentials {
	return &counted{c.TransportCredentials.Clone(), c.refused}
}
