// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	resolveWithin = 2 * time.Second
	resolvedFor   = 10 * time.Minute
)

// whereabouts are by what the host of an agent is known: its address, or what
// names lead to.
type whereabouts struct {
	host   string // of the agent's address; empty: this one
	source string // the poller's own IP

	mu      sync.Mutex
	ip      string
	resolve time.Time // again, from then on
}

func newWhereabouts(address, source string) *whereabouts {
	w := &whereabouts{source: source}
	w.host, _, _ = net.SplitHostPort(address) // it was validated
	return w
}

// find looks the address up, if it is a name and was not looked up lately.
func (w *whereabouts) find(ctx context.Context) {
	w.mu.Lock()
	due := time.Now().After(w.resolve)
	w.mu.Unlock()
	if !due {
		return
	}
	ip := plainIP(w.host)
	if ip == "" && w.host != "" {
		ctx, cancel := context.WithTimeout(ctx, resolveWithin)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", w.host)
		if err != nil {
			return // then checks tell, too
		}
		for _, a := range found { // real pollers prefer those of version 4
			if a = a.Unmap(); ip == "" || a.Is4() {
				ip = a.String()
			}
			if a.Is4() {
				break
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ip, w.resolve = ip, time.Now().Add(resolvedFor)
}

// names are those of the host that a check is about: the one that its details
// name, if they name one by IP, else the agent's. An address of the loopback
// interface names whoever says it, so it is the agent's host; and that of an
// agent is this one.
func (w *whereabouts) names(agent string, c *Check) hostNames {
	w.mu.Lock()
	ip := w.ip
	w.mu.Unlock()
	if isLocal(ip) {
		ip = orElse(plainIP(w.source), ip)
	}
	about := strings.TrimSpace(c.Details)
	if host, _, err := net.SplitHostPort(about); err == nil {
		about = host
	}
	if other := plainIP(about); other != "" && !isLocal(other) {
		return hostNames{ip: other, name: other}
	}
	name := w.host
	if name == "" || isLocal(plainIP(name)) || name == "localhost" {
		name = agent
	}
	return hostNames{ip: ip, name: name}
}

// plainIP is an IP address in its usual spelling; empty if it is none.
func plainIP(text string) string {
	ip := net.ParseIP(text)
	if ip == nil {
		return ""
	}
	return ip.String()
}

func isLocal(ip string) bool {
	parsed := net.ParseIP(ip)
	return parsed == nil || parsed.IsLoopback() || parsed.IsUnspecified()
}

func orElse(one, other string) string {
	if one != "" {
		return one
	}
	return other
}

// sourceIP is the address by which core is to know this host: the one that was
// said, or for "auto" the one that packets to core have.
func sourceIP(said, core string) string {
	if said != "auto" {
		return said
	}
	c, err := net.Dial("udp", core) // nothing is sent
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
