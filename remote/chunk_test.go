// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// script is a stream that says what is written in it, then ends.
type script []*sessionv1.FetchResponse

func (s *script) Recv() (*sessionv1.FetchResponse, error) {
	if len(*s) == 0 {
		return nil, io.EOF
	}
	m := (*s)[0]
	*s = (*s)[1:]
	return m, nil
}

func digestOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// recorded is what is sent of content.
func recorded(t testing.TB, data string, offset int64, size int) script {
	t.Helper()
	var s script
	c := &session.Content{Size: int64(len(data)), Offset: offset, Digest: digestOf(data), Body: io.NopCloser(strings.NewReader(data[offset:]))}
	err := sendContent(c, size, func(m *sessionv1.FetchResponse) error {
		s = append(s, proto.CloneOf(m)) // the buffer is used again
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read reads what is played, with no way to resume.
func read(s script, want session.Want) ([]byte, error) {
	first, err := s.Recv()
	if err != nil {
		return nil, err
	}
	if err := checkHeader(first.GetHeader(), want); err != nil {
		return nil, err
	}
	b := newBody(first.GetHeader(), &s)
	b.cancel = func(error) {}
	b.resume = func(_ int64, cut error) (chunkStream, *sessionv1.FetchHeader, error) { return nil, nil, cut }
	return io.ReadAll(b)
}

func TestChunks(t *testing.T) {
	data := "0123456789abcdef012"
	for _, size := range []int{1, 4, 16, 19, 20, 100} {
		s := recorded(t, data, 0, size)
		if n := (len(data)+size-1)/size + 1; len(s) != n {
			t.Errorf("by %d: %d messages, not %d", size, len(s), n)
		}
		for _, m := range s[1:] {
			if n := len(m.GetChunk().GetData()); n == 0 || n > size {
				t.Errorf("by %d: a chunk of %d bytes", size, n)
			}
		}
		if got, err := read(s, session.Want{}); err != nil || string(got) != data {
			t.Errorf("by %d: %q, %v", size, got, err)
		}
		want := session.Want{Offset: 5, Digest: digestOf(data)}
		if got, err := read(recorded(t, data, 5, size), want); err != nil || string(got) != data[5:] {
			t.Errorf("by %d from 5: %q, %v", size, got, err)
		}
	}
	if got, err := read(recorded(t, "", 0, 4), session.Want{}); err != nil || len(got) != 0 {
		t.Errorf("nothing: %q, %v", got, err)
	}
}

// A body that is shorter than it was said to be is an error of the server's,
// and not one that looks like an end.
func TestShortContent(t *testing.T) {
	c := &session.Content{Size: 10, Body: io.NopCloser(strings.NewReader("123"))}
	err := sendContent(c, 4, func(*sessionv1.FetchResponse) error { return nil })
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// What is not as it was sent is noticed, whatever it is.
func TestCorruptContent(t *testing.T) {
	data := "0123456789abcdef"
	chunk := func(s script, i int) *sessionv1.FetchChunk { return s[i].GetChunk() }
	for name, spoil := range map[string]func(script) script{
		"a bit of a chunk": func(s script) script { chunk(s, 2).Data[0] ^= 1; return s },
		"a checksum":       func(s script) script { chunk(s, 2).Crc32C++; return s },
		"an offset":        func(s script) script { chunk(s, 2).Offset++; return s },
		"a lost chunk":     func(s script) script { return append(s[:2], s[3:]...) },
		"a repeated chunk": func(s script) script { return append(s[:3], s[2:]...) },
		"chunks exchanged": func(s script) script { s[1], s[2] = s[2], s[1]; return s },
		"an empty chunk":   func(s script) script { s[2] = &sessionv1.FetchResponse{}; return s },
		"a second header":  func(s script) script { s[2] = s[0]; return s },
		"more than was said": func(s script) script {
			return append(s, &sessionv1.FetchResponse{Part: &sessionv1.FetchResponse_Chunk{Chunk: &sessionv1.FetchChunk{
				Data: []byte("x"), Offset: 16, Crc32C: crc32.Checksum([]byte("x"), castagnoli)}}})
		},
		"a good checksum of wrong data": func(s script) script {
			c := chunk(s, 2)
			c.Data[0] ^= 1
			c.Crc32C = crc32.Checksum(c.Data, castagnoli)
			return s
		},
		"no header":             func(s script) script { return s[1:] },
		"a digest of nothing":   func(s script) script { s[0].GetHeader().Digest = ""; return s },
		"a negative size":       func(s script) script { s[0].GetHeader().Size = -1; return s },
		"a header further on":   func(s script) script { s[0].GetHeader().Offset = 4; return s },
		"another content's end": func(s script) script { s[0].GetHeader().Digest = digestOf("other"); return s },
	} {
		_, err := read(spoil(recorded(t, data, 0, 4)), session.Want{})
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "content_corrupt" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := read(recorded(t, data, 0, 4)[:3], session.Want{}); err != errCut {
		t.Errorf("a stream that ends in the middle: %v", err)
	}
	if _, err := read(recorded(t, data, 4, 4), session.Want{Offset: 4, Digest: digestOf("other")}); err == nil {
		t.Error("other content than was begun was taken")
	}
}

// FuzzChunks plays any messages to the reader: it never panics, never holds
// more than a chunk, and says that all is well only if it is.
func FuzzChunks(f *testing.F) {
	for _, s := range []script{recorded(f, "0123456789abcdef", 0, 5), recorded(f, "", 0, 5), recorded(f, "0123456789", 4, 5)} {
		var b []byte
		for _, m := range s {
			one, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			b = append(binary.AppendUvarint(b, uint64(len(one))), one...)
		}
		f.Add(b, int64(0), "")
		f.Add(b, int64(4), digestOf("0123456789"))
	}
	f.Fuzz(func(t *testing.T, b []byte, offset int64, digest string) {
		var s script
		for len(b) > 0 {
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				break
			}
			m := new(sessionv1.FetchResponse)
			if proto.Unmarshal(b[k:k+int(n)], m) != nil {
				break
			}
			s, b = append(s, m), b[k+int(n):]
		}
		if len(s) == 0 {
			return
		}
		h := s[0].GetHeader()
		got, err := read(s, session.Want{Offset: offset, Digest: digest})
		if err == nil && (int64(len(got)) != h.GetSize()-offset || offset == 0 && digestOf(string(got)) != h.GetDigest()) {
			t.Errorf("%d bytes were taken for the whole: %v", len(got), h)
		}
	})
}

// After an interruption it goes on, and only with the same content.
func TestGoingOn(t *testing.T) {
	data := "0123456789abcdef"
	for name, next := range map[string]struct {
		resumed script
		good    bool
	}{
		"the same":    {recorded(t, data, 8, 4), true},
		"other":       {recorded(t, "0123456789abcdeX", 8, 4), false},
		"from before": {recorded(t, data, 4, 4), false},
	} {
		first := recorded(t, data, 0, 4)[:3]
		b := newBody(first[0].GetHeader(), new(script(first[1:])))
		b.cancel = func(error) {}
		b.resume = func(offset int64, cut error) (chunkStream, *sessionv1.FetchHeader, error) {
			if offset != 8 || cut != errCut {
				t.Errorf("%s: resumed at %d after %v", name, offset, cut)
			}
			s := next.resumed[1:]
			return &s, next.resumed[0].GetHeader(), nil
		}
		var got bytes.Buffer
		_, err := got.ReadFrom(b)
		if next.good != (err == nil && got.String() == data) {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
}
