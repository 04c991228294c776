// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Ports of the services. Without one a profiler is meant, which may be on any
// host; where nothing listens at that port, the error says what does.
const (
	ProfilerPort = "50084"
	AgentPort    = "50085"
	PollerPort   = "50086"
)

// Address completes what people write. It says whether the port is the usual
// one because none was given.
func Address(s string) (at string, defaulted bool, err error) {
	if s == "" {
		return "", false, session.Invalid("no_server", "no service is named", "name one: --server HOST, $"+ServerVariable+" or srprof context set")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // there is no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
	}
	_, notNumber := strconv.ParseUint(cmp.Or(port, ProfilerPort), 10, 16)
	if host == "" || notNumber != nil || strings.ContainsAny(host, "/[] ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", false, session.Invalid("bad_server", fmt.Sprintf("%q is not the address of a service", s), "write it as host, host:port or [address]:port")
	}
	return net.JoinHostPort(host, cmp.Or(port, ProfilerPort)), port == "", nil
}

// Listening looks for a service of another kind on a host whose profiler's port
// does not answer: what it is, and where. All are empty if nobody is there.
func Listening(ctx context.Context, host string) (service, at, port string) {
	for _, other := range []struct{ port, service string }{{PollerPort, "a poller"}, {AgentPort, "an agent"}} {
		at := net.JoinHostPort(host, other.port)
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", at)
		if err != nil {
			continue
		}
		conn.Close()
		return other.service, at, other.port
	}
	return "", "", ""
}
