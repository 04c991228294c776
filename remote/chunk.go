// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// The size of chunks. A client takes any up to MaxChunkSize.
const (
	MinChunkSize     = 4 << 10
	DefaultChunkSize = 64 << 10
	MaxChunkSize     = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sendContent sends a header and the content in chunks. It holds one chunk at a
// time: send returns when there is room for the next one.
func sendContent(c *session.Content, chunkSize int, send func(*sessionv1.FetchResponse) error) error {
	err := send(&sessionv1.FetchResponse{Part: &sessionv1.FetchResponse_Header{Header: &sessionv1.FetchHeader{
		Session: sessionMessage(&c.Session), Format: Text(c.Format), Size: c.Size, Offset: c.Offset, Digest: Text(c.Digest),
	}}})
	if err != nil {
		return err
	}
	buf := make([]byte, chunkSize)
	for offset := c.Offset; offset < c.Size; {
		n, err := io.ReadFull(c.Body, buf[:min(int64(chunkSize), c.Size-offset)])
		if err != nil {
			return fmt.Errorf("read the content at byte %d of %d: %w", offset+int64(n), c.Size, err)
		}
		err = send(&sessionv1.FetchResponse{Part: &sessionv1.FetchResponse_Chunk{Chunk: &sessionv1.FetchChunk{
			Data: buf[:n], Offset: offset, Crc32C: crc32.Checksum(buf[:n], castagnoli),
		}}})
		if err != nil {
			return err
		}
		offset += int64(n)
	}
	return nil
}

// chunkStream is what arrives of one call of Fetch.
type chunkStream interface {
	Recv() (*sessionv1.FetchResponse, error)
}

// body is the content as it arrives. It has one chunk at a time, checks each,
// and goes on by a new call where the connection broke.
type body struct {
	header *sessionv1.FetchHeader
	stream chunkStream
	next   int64     // the offset of the next chunk
	chunk  []byte    // what is not read yet of the last one
	hash   hash.Hash // of all up to next; nil if the front is not known here
	err    error     // that ended it

	// resume opens a stream from next on, or says why that cannot be. It is
	// asked with the error that cut the one before.
	resume func(offset int64, cut error) (chunkStream, *sessionv1.FetchHeader, error)
	cancel context.CancelCauseFunc // of the streams
}

// errClosed is what reading says after Close.
var errClosed = fmt.Errorf("the content was closed: %w", fs.ErrClosed)

func newBody(first *sessionv1.FetchHeader, stream chunkStream) *body {
	b := &body{header: first, stream: stream, next: first.GetOffset()}
	if b.next == 0 {
		b.hash = sha256.New()
	}
	return b
}

// Read blocks until a byte is there. Its errors are final.
func (b *body) Read(p []byte) (int, error) {
	for len(b.chunk) == 0 && b.err == nil {
		if b.err = b.receive(); b.err != nil {
			b.cancel(b.err)
		}
	}
	if len(b.chunk) == 0 {
		return 0, b.err
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	return n, nil
}

// Close ends the call, at the server too. It may be called while Read waits.
func (b *body) Close() error {
	b.cancel(errClosed)
	return nil
}

// receive takes the next chunk, or says that there is none: io.EOF is the good
// end, of content that is whole.
func (b *body) receive() error {
	m, err := b.stream.Recv()
	if err != nil && b.next == b.header.GetSize() { // all is there, whatever became of the connection
		return b.checkDigest()
	}
	if err != nil {
		if err == io.EOF {
			err = errCut
		}
		return b.goOn(err)
	}
	return b.take(m.GetChunk())
}

// errCut is a stream that ended well before its content did.
var errCut = errors.New("the stream ended too early")

func (b *body) goOn(cut error) error {
	stream, h, err := b.resume(b.next, cut)
	if err != nil {
		return err
	}
	b.stream = stream
	if h.GetDigest() != b.header.GetDigest() || h.GetSize() != b.header.GetSize() || h.GetOffset() != b.next {
		return corrupt(fmt.Sprintf("it was to go on at byte %d of %d, and came from byte %d of %d", b.next, b.header.GetSize(), h.GetOffset(), h.GetSize()))
	}
	return nil
}

func (b *body) take(c *sessionv1.FetchChunk) error {
	data := c.GetData()
	switch {
	case len(data) == 0:
		return corrupt("a chunk is empty")
	case c.GetOffset() != b.next:
		return corrupt(fmt.Sprintf("byte %d came where %d was expected", c.GetOffset(), b.next))
	case int64(len(data)) > b.header.GetSize()-b.next:
		return corrupt(fmt.Sprintf("more came than its %d bytes", b.header.GetSize()))
	case crc32.Checksum(data, castagnoli) != c.GetCrc32C():
		return corrupt(fmt.Sprintf("the checksum of the chunk at byte %d is wrong", b.next))
	}
	b.next += int64(len(data))
	if b.hash != nil {
		b.hash.Write(data) // never fails
	}
	b.chunk = data
	return nil
}

func (b *body) checkDigest() error {
	if b.hash == nil {
		return io.EOF
	}
	if sum := hex.EncodeToString(b.hash.Sum(nil)); sum != b.header.GetDigest() {
		return corrupt(fmt.Sprintf("its SHA-256 is %s and was to be %s", sum, b.header.GetDigest()))
	}
	return io.EOF
}

// checkHeader refuses what no content can be.
func checkHeader(h *sessionv1.FetchHeader, want session.Want) error {
	digest, err := hex.DecodeString(h.GetDigest())
	switch {
	case h == nil:
		return corrupt("it has no header")
	case h.GetSize() < 0 || h.GetOffset() < 0 || h.GetOffset() > h.GetSize():
		return corrupt(fmt.Sprintf("it begins at byte %d of %d", h.GetOffset(), h.GetSize()))
	case h.GetOffset() != want.Offset:
		return corrupt(fmt.Sprintf("it begins at byte %d instead of %d", h.GetOffset(), want.Offset))
	case err != nil || len(digest) != sha256.Size:
		return corrupt(fmt.Sprintf("%q is no SHA-256", h.GetDigest()))
	case want.Digest != "" && h.GetDigest() != want.Digest:
		return corrupt("it is other content than was begun")
	}
	return nil
}

// corrupt is the error of content that did not arrive as it was.
func corrupt(how string) error {
	return &session.Error{Code: "content_corrupt", Kind: session.ErrUnavailable,
		Problem: "the profile did not arrive as it was sent: " + how, Remedy: "fetch it again"}
}
