// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Logging is the object of that name in the configuration of ServiceRadar's
// services. Lines are JSON in the shape of theirs: level, component, time,
// message, and what belongs to it.
type Logging struct {
	Level      string    `json:"level"`
	Debug      bool      `json:"debug"`       // stands for level debug
	Output     string    `json:"output"`      // stdout or stderr
	TimeFormat string    `json:"time_format"` // Go's layout of a time; "" is RFC 3339
	OTel       Telemetry `json:"otel,omitzero"`
}

// Telemetry is taken so that files of ServiceRadar's services can be used.
type Telemetry struct {
	Enabled      bool              `json:"enabled"`
	Endpoint     string            `json:"endpoint"`
	Headers      map[string]string `json:"headers"`
	ServiceName  string            `json:"service_name"`
	BatchTimeout string            `json:"batch_timeout"`
	Insecure     bool              `json:"insecure"`
	TLS          struct {
		CertFile string `json:"cert_file"`
		KeyFile  string `json:"key_file"`
		CAFile   string `json:"ca_file"`
	} `json:"tls"`
}

// levels are the names that ServiceRadar's services have for them.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "warning": slog.LevelWarn,
	"error": slog.LevelError, "fatal": slog.LevelError + 4, "panic": slog.LevelError + 4, "disabled": slog.LevelError + 100,
}

// Validate refuses what makes no sense. Errors are *session.Error.
func (l *Logging) Validate() error {
	if _, ok := levels[strings.ToLower(cmp.Or(l.Level, "info"))]; !ok {
		return session.Invalid("bad_log_level", fmt.Sprintf("there is no level %q", l.Level), "say debug, info, warn or error")
	}
	if o := cmp.Or(l.Output, "stdout"); o != "stdout" && o != "stderr" {
		return session.Invalid("bad_log_output", fmt.Sprintf("output is %q", l.Output), "say stdout or stderr; systemd puts either into the journal or a file")
	}
	if l.TimeFormat != "" && time.Unix(0, 0).UTC().Format(l.TimeFormat) == l.TimeFormat {
		return session.Invalid("bad_time_format", fmt.Sprintf("time_format %q has no place for a time", l.TimeFormat), `it is how Go would write 2006-01-02T15:04:05Z07:00; leave it out for that`)
	}
	if l.OTel.Enabled {
		return session.Invalid("otel_not_supported", "logs cannot be sent by OpenTelemetry yet", "set logging.otel.enabled to false, and collect what is written to output")
	}
	return nil
}

// FromEnvironment takes the variables of ServiceRadar's loggers for defaults:
// those services use them where their configuration says nothing.
func (l *Logging) FromEnvironment(get func(string) string) (used []string) {
	for _, v := range []struct {
		name string
		set  func(string)
	}{
		{"LOG_LEVEL", func(s string) { l.Level = s }},
		{"LOG_OUTPUT", func(s string) { l.Output = s }},
		{"LOG_TIME_FORMAT", func(s string) { l.TimeFormat = s }},
		{"DEBUG", func(s string) { l.Debug = slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(s)) }},
	} {
		if value := get(v.name); value != "" {
			v.set(value)
			used = append(used, v.name)
		}
	}
	return used
}

// Stream is where lines go.
func (l *Logging) Stream(s Streams) io.Writer {
	if l.Output == "stderr" {
		return s.Err
	}
	return s.Out
}

// Loggers write lines in the shape of ServiceRadar's. Those of the audit are
// written whatever the level is.
func (l *Logging) Loggers(w io.Writer, component string) (log, audit *slog.Logger) {
	level := levels[strings.ToLower(cmp.Or(l.Level, "info"))]
	if l.Debug {
		level = min(level, slog.LevelDebug)
	}
	layout := cmp.Or(l.TimeFormat, time.RFC3339)
	replace := func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
			a.Value = slog.StringValue(a.Value.Time().Format(layout))
		case a.Key == slog.LevelKey:
			a.Value = slog.StringValue(strings.ToLower(a.Value.String()))
		case a.Key == slog.MessageKey:
			a.Key = "message"
		}
		return a
	}
	all := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: min(level, slog.LevelInfo), ReplaceAttr: replace}).WithAttrs([]slog.Attr{slog.String("component", component)})
	return slog.New(&atLeast{all, level}), slog.New(all)
}

// atLeast lets through what is not below a level.
type atLeast struct {
	slog.Handler
	level slog.Level
}

// Enabled says whether it is let through.
func (a *atLeast) Enabled(_ context.Context, l slog.Level) bool { return l >= a.level }

// WithAttrs is of slog's interface, as the next one.
func (a *atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &atLeast{a.Handler.WithAttrs(attrs), a.level}
}

// WithGroup is of slog's interface.
func (a *atLeast) WithGroup(name string) slog.Handler {
	return &atLeast{a.Handler.WithGroup(name), a.level}
}
