// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// content is a profile in another form than it is kept in, in a file without a
// name.
type content struct {
	key    contentKey
	file   *os.File
	size   int64
	digest string
	refs   atomic.Int64 // who keeps and who reads it; the last one closes the file
}

type contentKey struct {
	id           session.ID
	host, format string
}

func (c *content) release() {
	if c.refs.Add(-1) == 0 {
		_ = c.file.Close() // it was written without error, and has no name: nothing is lost
	}
}

// contents are kept for a while because a fetch may be resumed.
type contents struct {
	mu    sync.Mutex
	kept  []*content // the oldest first
	bytes int64
}

const (
	maxContents     = 64
	maxContentBytes = 256 << 20
)

// get finds a content, with a reference.
func (c *contents) get(key contentKey) *content {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.kept {
		if one.key == key {
			one.refs.Add(1)
			return one
		}
	}
	return nil
}

// keep keeps a content for who asks next.
func (c *contents) keep(one *content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.refs.Add(1)
	c.kept = append(c.kept, one)
	c.bytes += one.size
	for len(c.kept) > 1 && (len(c.kept) > maxContents || c.bytes > maxContentBytes) {
		c.discard(c.kept[0])
	}
}

func (c *contents) discard(one *content) {
	c.kept = slices.DeleteFunc(c.kept, func(o *content) bool { return o == one })
	c.bytes -= one.size
	one.release()
}

// forget lets go of what was made of a session.
func (c *contents) forget(id session.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range slices.Clone(c.kept) {
		if one.key.id == id {
			c.discard(one)
		}
	}
}

func (c *contents) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.kept) > 0 {
		c.discard(c.kept[0])
	}
}

// write encodes a profile into a file of its own. The caller gets the content
// with one reference.
func (p *Poller) encode(key contentKey, format encoding.Format, of *profile.Profile) (*content, error) {
	file, err := os.CreateTemp(p.spool, "srprof-profile-")
	if err != nil {
		return nil, notWritten(err)
	}
	err = os.Remove(file.Name())
	hash, count := sha256.New(), &counter{}
	w := bufio.NewWriterSize(io.MultiWriter(file, hash, count), copyBuffer)
	if err == nil {
		err = format.Write(w, of, encoding.Options{})
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		_ = file.Close() // what is in it is not wanted
		return nil, notWritten(err)
	}
	c := &content{key: key, file: file, size: count.n, digest: hex.EncodeToString(hash.Sum(nil))}
	c.refs.Store(1)
	return c, nil
}

func notWritten(err error) error {
	return &session.Error{Code: "profile_not_written", Kind: session.ErrUnavailable, Problem: "the profile could not be written in that form", Cause: err, Remedy: "fetch it as pprof, and convert it where there is room"}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// body reads a content.
type body struct {
	*io.SectionReader
	content *content
	closed  atomic.Bool
}

// Read is of io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, os.ErrClosed
	}
	return b.SectionReader.Read(p)
}

// Close is of io.Closer.
func (b *body) Close() error {
	if b.closed.Swap(true) {
		return os.ErrClosed
	}
	b.content.release()
	return nil
}
