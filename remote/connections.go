// SPDX-License-Identifier: Apache-2.0

package remote

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

// Connections counts those of a server that are open. It is a stats.Handler.
type Connections struct {
	// Failed is told of calls that were not answered with OK. Set it first.
	Failed func(code string)
	open   atomic.Int64
}

// Open is how many there are.
func (c *Connections) Open() int64 { return c.open.Load() }

// HandleConn counts.
func (c *Connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		c.open.Add(1)
	case *stats.ConnEnd:
		c.open.Add(-1)
	}
}

// TagConn is of gRPC's interface, as the next two.
func (c *Connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC does nothing.
func (c *Connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC counts what was not answered with OK.
func (c *Connections) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok && end.Error != nil {
		c.Failed(status.Code(end.Error).String())
	}
}

// WhileAny calls end when nobody has been connected for some time.
func (c *Connections) WhileAny(ctx context.Context, end func()) {
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

const (
	alone     = 2 * time.Second        // without any connection nobody will come any more
	lookEvery = 100 * time.Millisecond // for that
)

// Counted are credentials that tell of each connection that they refuse.
type Counted struct {
	credentials.TransportCredentials
	Refused func(code string)
}

// ServerHandshake makes sure of the client.
func (c *Counted) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		code := "handshake_failed"
		var e *auth.Error
		if errors.As(err, &e) {
			code = e.Code
		}
		c.Refused(code)
	}
	return conn, info, err
}

// Clone copies, as gRPC wants.
func (c *Counted) Clone() credentials.TransportCredentials {
	return &Counted{c.TransportCredentials.Clone(), c.Refused}
}
