// SPDX-License-Identifier: Apache-2.0

// Package tracing sends spans of calls and of sessions to an OpenTelemetry
// collector, for those who follow a request through several services. It is off
// unless the configuration turns it on. Whatever becomes of spans, nobody waits
// for them.
package tracing

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Settings are the object "tracing" of a configuration, in the shape of
// logging.otel of ServiceRadar's services.
type Settings struct {
	Enabled      bool              `json:"enabled"`
	Endpoint     string            `json:"endpoint"` // host:port of OTLP by gRPC; "": what OTEL_EXPORTER_OTLP_… say, or localhost:4317
	Headers      map[string]string `json:"headers,omitempty"`
	ServiceName  string            `json:"service_name"`  // "": OTEL_SERVICE_NAME, or the program's
	BatchTimeout string            `json:"batch_timeout"` // as "5s": spans wait for so long to be sent together
	SampleRatio  float64           `json:"sample_ratio"`  // of the calls whose callers do not trace; those who do decide themselves
	Insecure     bool              `json:"insecure"`      // without TLS
	TLS          Files             `json:"tls"`
}

// Files are PEM files. Without any, the authorities of the system are believed.
type Files struct {
	Cert string `json:"cert_file"`
	Key  string `json:"key_file"`
	CA   string `json:"ca_file"`
}

// Default are the settings where nothing else is said.
func Default() Settings { return Settings{BatchTimeout: "5s", SampleRatio: 1} }

// Validate refuses what makes no sense, or would tell strangers a secret.
func (s *Settings) Validate() error {
	if !s.Enabled {
		return nil
	}
	invalid := func(problem, remedy string) error { return session.Invalid("bad_tracing", problem, remedy) }
	if s.Endpoint != "" {
		if _, port, err := net.SplitHostPort(s.Endpoint); err != nil || port == "" {
			return invalid(fmt.Sprintf("endpoint %q is no address", s.Endpoint), `write "collector.example.org:4317"; OTLP by HTTP is not spoken`)
		}
	}
	switch {
	case s.SampleRatio < 0 || s.SampleRatio > 1:
		return invalid(fmt.Sprintf("sample_ratio is %v", s.SampleRatio), "choose from 0 to 1")
	case s.batchTimeout() < 100*time.Millisecond || s.batchTimeout() > 10*time.Minute:
		return invalid(fmt.Sprintf("batch_timeout is %q", s.BatchTimeout), `choose from "100ms" to "10m"`)
	case (s.TLS.Cert == "") != (s.TLS.Key == ""):
		return invalid("tls names a certificate without its key, or a key without its certificate", "name both, or neither")
	case s.Insecure && s.TLS != Files{}:
		return invalid("tls names files, but insecure is true", "leave one of them out")
	case s.Endpoint == "" && (s.Insecure || s.TLS != Files{}):
		return invalid("insecure and tls are about an endpoint, and there is none", "name it, or say all of it by OTEL_EXPORTER_OTLP_… in the environment")
	case s.Insecure && len(s.Headers) > 0 && !auth.OnLoopback(s.Endpoint):
		return invalid("headers would be sent to another host without TLS", "they are often secrets: leave insecure or headers out")
	}
	return nil
}

// batchTimeout is 0 if it is no duration.
func (s *Settings) batchTimeout() time.Duration {
	d, err := time.ParseDuration(s.BatchTimeout)
	if err != nil {
		return 0
	}
	return d
}

// Tracing makes spans and sends them. Nil is one that is off.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// About says whose spans they are.
type About struct{ Name, Version, Host string }

// Start begins to trace, if that is on; else it returns nil. That no collector
// answers is no error: it may come later.
func Start(s *Settings, about About, log *slog.Logger) (*Tracing, error) {
	if !s.Enabled {
		return nil, nil
	}
	options, err := s.exporter()
	if err != nil {
		return nil, err
	}
	otel.SetErrorHandler(&faults{log: log})
	exporter, err := otlptracegrpc.New(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("prepare to send traces: %w", err)
	}
	of, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", about.Name), attribute.String("service.version", about.Version), attribute.String("host.name", about.Host)),
		resource.WithFromEnv(), resource.WithAttributes(s.names()...))
	if err != nil {
		return nil, fmt.Errorf("describe this service to the collector: %w", err)
	}
	limits := sdk.NewSpanLimits()
	limits.AttributeValueLengthLimit = 256 // strangers choose some
	p := sdk.NewTracerProvider(sdk.WithResource(of), sdk.WithRawSpanLimits(limits),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(s.SampleRatio))),
		sdk.WithBatcher(exporter, sdk.WithBatchTimeout(s.batchTimeout()), sdk.WithMaxQueueSize(1024)))
	log.Info("traces are sent", "endpoint", cmp.Or(s.Endpoint, "as the environment says"), "sample_ratio", s.SampleRatio)
	return &Tracing{provider: p, tracer: p.Tracer("github.com/carverauto/serviceradar-profiler/tracing")}, nil
}

// names override what the environment says.
func (s *Settings) names() []attribute.KeyValue {
	if s.ServiceName == "" {
		return nil
	}
	return []attribute.KeyValue{attribute.String("service.name", s.ServiceName)}
}

// exporter are the options of the one that sends.
func (s *Settings) exporter() ([]otlptracegrpc.Option, error) {
	var options []otlptracegrpc.Option
	if len(s.Headers) > 0 {
		options = append(options, otlptracegrpc.WithHeaders(s.Headers))
	}
	if s.Endpoint == "" {
		return options, nil
	}
	options = append(options, otlptracegrpc.WithEndpoint(s.Endpoint))
	if s.Insecure {
		return append(options, otlptracegrpc.WithInsecure()), nil
	}
	creds, err := s.credentials()
	return append(options, otlptracegrpc.WithTLSCredentials(creds)), err
}

func (s *Settings) credentials() (credentials.TransportCredentials, error) {
	if s.TLS.Cert != "" && s.TLS.CA != "" {
		own := auth.Security{TLS: auth.Files{Cert: s.TLS.Cert, Key: s.TLS.Key, CA: s.TLS.CA}}
		return own.ClientCredentials(s.Endpoint)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.TLS.Cert != "" {
		own, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
		if err != nil {
			return nil, session.Invalid("bad_tracing", fmt.Sprintf("the certificate in %s cannot be used: %v", s.TLS.Cert, err), "name a certificate and its key")
		}
		config.Certificates = []tls.Certificate{own}
	}
	if s.TLS.CA != "" {
		pem, err := os.ReadFile(s.TLS.CA)
		if err == nil {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				err = errors.New("there is no certificate in it")
			}
		}
		if err != nil {
			return nil, session.Invalid("bad_tracing", fmt.Sprintf("the authority in %s cannot be used: %v", s.TLS.CA, err), "name a file of certificates in PEM")
		}
	}
	return credentials.NewTLS(config), nil
}

// Calls makes a span of each call by gRPC but those to ask for health, which
// come every few seconds. It is nil if tracing is off.
func (t *Tracing) Calls() stats.Handler {
	if t == nil {
		return nil
	}
	return otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		otelgrpc.WithFilter(func(c *stats.RPCTagInfo) bool { return !strings.HasPrefix(c.FullMethodName, "/grpc.health.") }))
}

// Close sends what is left, for so long as ctx lets it.
func (t *Tracing) Close(ctx context.Context) {
	if t != nil {
		_ = t.provider.Shutdown(ctx) // what goes wrong is told to faults
	}
}

// faults are what goes wrong with sending, told once in a while.
type faults struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
	more int
}

const tellFaultsEvery = time.Minute

// Handle is of otel's interface.
func (f *faults) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.last) < tellFaultsEvery {
		f.more++
		return
	}
	f.log.Warn("traces cannot be sent", "error", err.Error(), "more_since_last", f.more)
	f.last, f.more = time.Now(), 0
}
