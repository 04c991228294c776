// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Fetch yields content that is checked as it is read: at its end the reader has
// io.EOF if all of it arrived as it was sent, and an error of code
// content_corrupt if not. After a break of the connection it goes on by itself
// where it was. The context bounds the reading too.
//
// Where the front of the content was fetched before (Want.Offset), only whoever
// has it can check the digest of all.
func (c *Client) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	streams, cancel := context.WithCancelCause(ctx)
	var (
		stream chunkStream
		header *sessionv1.FetchHeader
	)
	for try := 1; ; try++ {
		var err error
		if stream, header, err = c.openStream(streams, id, want); err == nil {
			break
		}
		if try == callTries || !c.link.mayRetry(err) || pause(streams, try) != nil {
			cancel(err)
			return nil, c.link.explain(ctx, err)
		}
	}
	if err := checkHeader(header, want); err != nil {
		cancel(err)
		return nil, err
	}
	b := newBody(header, stream)
	b.cancel = cancel
	b.resume = func(offset int64, cut error) (chunkStream, *sessionv1.FetchHeader, error) {
		return c.resumeStream(ctx, streams, id, session.Want{Format: header.GetFormat(), Offset: offset, Digest: header.GetDigest()}, cut)
	}
	return &session.Content{Session: sessionOf(header.GetSession()), Format: header.GetFormat(),
		Size: header.GetSize(), Offset: header.GetOffset(), Digest: header.GetDigest(), Body: b}, nil
}

// openStream asks for content and waits for its header. Errors are gRPC's.
func (c *Client) openStream(streams context.Context, id session.ID, want session.Want) (chunkStream, *sessionv1.FetchHeader, error) {
	one, cancel := context.WithCancel(streams)
	late := time.AfterFunc(headerTimeout, cancel)
	stream, err := c.stub.Fetch(one, wantMessage(id, want), grpc.MaxCallRecvMsgSize(maxStreamMessage))
	if err == nil {
		var m *sessionv1.FetchResponse
		if m, err = stream.Recv(); err == nil && late.Stop() {
			return &canceledStream{stream, cancel}, m.GetHeader(), nil
		}
	}
	if !late.Stop() && streams.Err() == nil {
		err = status.FromContextError(context.DeadlineExceeded).Err()
	}
	cancel()
	return nil, nil, streamError(err)
}

// canceledStream frees what belongs to its context when it ends.
type canceledStream struct {
	chunkStream
	cancel context.CancelFunc
}

func (s *canceledStream) Recv() (*sessionv1.FetchResponse, error) {
	m, err := s.chunkStream.Recv()
	if err != nil {
		s.cancel()
	}
	return m, err
}

// resumeStream opens a stream in place of one that broke, within a bounded
// time. The error is the final one.
func (c *Client) resumeStream(ctx, streams context.Context, id session.ID, want session.Want, cut error) (chunkStream, *sessionv1.FetchHeader, error) {
	since := time.Now()
	for try := 1; ; try++ {
		if context.Cause(streams) == errClosed {
			return nil, nil, errClosed
		}
		cut = streamError(cut)
		if !c.link.mayRetry(cut) || time.Since(since) > c.resumeFor || pause(streams, try) != nil {
			return nil, nil, c.link.explain(ctx, cut)
		}
		stream, header, err := c.openStream(streams, id, want)
		if err == nil {
			return stream, header, checkHeader(header, want)
		}
		cut = err
	}
}

// streamError makes of a stream that ended well, but too early, one whose
// connection broke.
func streamError(err error) error {
	if err == io.EOF || err == errCut {
		return status.Error(codes.Unavailable, errCut.Error())
	}
	return err
}
