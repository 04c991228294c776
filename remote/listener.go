// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// How many connections a service has at once. What is beyond is closed as soon
// as it comes: waiting for a place would be a place for whoever wants to keep
// others out. Agents and pollers have one each, people one for a command.
const (
	maxConnections        = 1000
	maxConnectionsOfOne   = 200 // from one address: several services behind it, or one who is up to no good
	connectionsToldWithin = time.Second
)

// Bounded lets through so many connections of a listener as a service can have,
// and so many from one address. Who is turned away is told to the log, a line a
// second at most.
func Bounded(l net.Listener, log *slog.Logger) net.Listener {
	return &bounded{Listener: l, log: log, most: maxConnections, mostOfOne: maxConnectionsOfOne, from: map[netip.Addr]int{}}
}

type bounded struct {
	net.Listener
	log             *slog.Logger
	most, mostOfOne int

	mu     sync.Mutex
	open   int
	from   map[netip.Addr]int // open ones; none has no entry
	told   time.Time
	silent int
}

// Accept waits for a connection that has a place.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(c)
		if b.enter(from) {
			return &placed{Conn: c, leave: sync.OnceFunc(func() { b.leave(from) })}, nil
		}
		c.Close()
	}
}

func (b *bounded) enter(from netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open < b.most && b.from[from] < b.mostOfOne {
		b.open++
		b.from[from]++
		return true
	}
	if time.Since(b.told) < connectionsToldWithin {
		b.silent++
		return false
	}
	b.log.Warn("too many connections: one was closed", "peer", from.String(), "open", b.open, "of_this_address", b.from[from],
		"most", b.most, "most_of_one_address", b.mostOfOne, "more_since_last", b.silent)
	b.told, b.silent = time.Now(), 0
	return false
}

func (b *bounded) leave(from netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	if b.from[from]--; b.from[from] == 0 {
		delete(b.from, from)
	}
}

// addressOf is where a connection comes from; the zero one where that is not
// an address of the Internet.
func addressOf(c net.Conn) netip.Addr {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	leave func()
}

// Close closes it.
func (c *placed) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite lets the handshake say why it ends before it closes.
func (c *placed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
