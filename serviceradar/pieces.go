// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/session"
)

// pieces sends one answer of StreamResults.
type pieces struct {
	out      grpc.ServerStreamingServer[monitoring.ResultsChunk]
	sequence string
	sent     int
}

// StreamResults sends all of the profile that is asked for, in chunks each of
// which is a JSON object with an array hosts: pollers put such arrays together.
// What fits is one chunk.
func (m *monitoringServer) StreamResults(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	if !m.checks(in.GetServiceType()) {
		return status.Errorf(codes.Unimplemented, "StreamResults not supported for service type '%.64s'", in.GetServiceType())
	}
	ctx := out.Context()
	p := &pieces{out: out}
	err := m.stream(ctx, p, in)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case notAllowed(err) != nil:
		return notAllowed(err)
	case p.sent > 0: // what has been sent cannot be taken back
		return status.Error(codes.Internal, err.Error())
	}
	p.sequence = ""
	return p.send(m.failed(err), 1)
}

func (m *monitoringServer) stream(ctx context.Context, p *pieces, in *monitoring.ResultsRequest) error {
	a, err := m.find(ctx, in.GetDetails())
	if err != nil {
		return err
	}
	r := m.describe(&a, in)
	p.sequence = a.sequence()
	if !r.wantsText {
		return p.send(r, 1)
	}
	ends, digest, err := m.divide(ctx, r)
	if err != nil {
		return err
	}
	if len(ends) == 0 {
		return p.send(r, 1)
	}
	content, err := m.runner.Fetch(ctx, r.SessionID, session.Want{Format: formatFolded})
	if err != nil {
		return err
	}
	defer content.Body.Close()
	if content.Digest != digest {
		return errors.New("the profile changed while it was sent")
	}
	return p.sendText(r, content.Body, ends)
}

// pieceRoom is what one of several chunks has for text. ServiceRadar's own cut
// there, too.
const pieceRoom = 1 << 20

// divide finds where the text has to be cut so that each piece has room in a
// chunk: the whole in one chunk as pollers can carry it, since some take no more
// than one, or else in small ones. It reads all of it for that: the first chunk
// says how many there are.
func (m *monitoringServer) divide(ctx context.Context, r *results) (ends []int64, digest string, err error) {
	content, err := m.fetch(ctx, r)
	if content == nil {
		return nil, "", err
	}
	defer content.Body.Close()
	room, err := r.room()
	if err != nil {
		return nil, "", err
	}
	var at int64
	size, all := 0, 0
	err = eachLine(content.Body, func(line []byte) error {
		n := jsonSize(line)
		all += n
		if n > room {
			return &session.Error{Code: "too_large", Kind: session.ErrTooLarge, Problem: "the profile has a stack that is too long for a chunk",
				Remedy: "fetch it with srprof"}
		}
		if size > 0 && size+n > pieceRoom {
			ends, size = append(ends, at), 0
		}
		at, size = at+int64(len(line))+1, size+n
		return nil
	})
	if all <= room {
		ends = nil
	}
	if at > 0 {
		ends = append(ends, at)
	}
	return ends, content.Digest, err
}

// sendText sends the text piece by piece; only the first one describes it.
func (p *pieces) sendText(r *results, text io.Reader, ends []int64) error {
	var at int64
	for i, end := range ends {
		var piece strings.Builder
		piece.Grow(int(end - at))
		if _, err := io.CopyN(&piece, text, end-at); err != nil {
			return err
		}
		at, r.Folded = end, piece.String()
		if len(ends) > 1 {
			r.Piece, r.Pieces = i+1, len(ends)
		}
		if err := p.send(r, len(ends)); err != nil {
			return err
		}
		r = &results{Available: true, HostIP: r.HostIP, Hostname: r.Hostname, Version: r.Version, Status: r.Status, SessionID: r.SessionID}
	}
	return nil
}

func (p *pieces) send(r *results, of int) error {
	data, err := encoded(struct {
		Hosts []*results `json:"hosts"`
	}{[]*results{r}}, r)
	if err != nil {
		return err
	}
	p.sent++
	return p.out.Send(&monitoring.ResultsChunk{
		Data: data, IsFinal: p.sent == of, ChunkIndex: int32(p.sent - 1), TotalChunks: int32(of),
		CurrentSequence: p.sequence, Timestamp: time.Now().Unix(),
	})
}
