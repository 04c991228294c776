// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/privilege"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/tracing"
	"github.com/carverauto/serviceradar-profiler/version"
)

// Reach is what a configuration says of how a service is reached, and watched.
type Reach struct {
	Name       string // of the program
	ListenAddr string
	Security   *auth.Security
	Metrics    *metrics.Settings
	Tracing    *tracing.Settings
}

// Ports are those of a service, and who comes through them.
type Ports struct {
	Host        string // the name of this host
	Creds       credentials.TransportCredentials
	Connections remote.Connections
	Metrics     *metrics.Metrics // nil: nobody asks
	Tracing     *tracing.Tracing // nil: off

	scrapes *metrics.Server
}

// Open finds the certificates and opens the ports. measured makes the metrics,
// where somebody asks for them; what they are of need not be there yet.
func (s *Service) Open(r *Reach, source *Source, measured func() *metrics.Metrics) (err error) {
	if s.Host, err = os.Hostname(); err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	if s.Creds, err = r.Security.ServerCredentials(r.ListenAddr, s.Log); err != nil {
		return source.Wrong("security", err)
	}
	if s.Tracing, err = tracing.Start(r.Tracing, tracing.About{Name: r.Name, Version: version.String(), Host: s.Host}, s.Log); err != nil {
		return source.Wrong("tracing", err)
	}
	if err = s.listen(r.ListenAddr); err != nil {
		return err
	}
	if r.Metrics.ListenAddr != "" {
		s.Metrics = measured()
	}
	s.Connections.Failed = s.Metrics.RPCFailed
	s.scrapes, err = metrics.Listen(r.Metrics, auth.HTTPS(s.Creds))
	return err
}

// NewServer is what serves at the port, with options of remote's: who comes
// shows a certificate, and is counted and traced.
func (s *Service) NewServer(options []grpc.ServerOption) *grpc.Server {
	options = append(options, grpc.Creds(&remote.Counted{TransportCredentials: s.Creds, Refused: s.Metrics.ConnectionRefused}), grpc.StatsHandler(&s.Connections))
	if calls := s.Tracing.Calls(); calls != nil {
		options = append(options, grpc.StatsHandler(calls))
	}
	return grpc.NewServer(options...)
}

// spansTime is for what tracing has not sent yet.
const spansTime = 2 * time.Second

// close sends the spans of the last calls, and ends what was opened.
func (p *Ports) close() {
	ctx, cancel := context.WithTimeout(context.Background(), spansTime)
	defer cancel()
	p.Tracing.Close(ctx)
	p.scrapes.Close()
}

// Unprivileged gives up the privileges that the program was started with: it
// needs none.
func (s *Service) Unprivileged() {
	if _, err := privilege.Keep(nil); err != nil {
		s.Log.Warn("this program needs no privilege, and could not give up those that it has", "error", err.Error())
	}
}
