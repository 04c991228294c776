// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listenForState is the other end of sd_notify.
func listenForState(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func TestNobodyStarted(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m, err := WhoStarted(slog.New(slog.DiscardHandler))
	if m != nil || err != nil {
		t.Fatalf("%v, %v", m, err)
	}
	m.Ready("nothing happens")
	m.Watch(t.Context(), nil)
}

// A service that hangs is not said to live; one that answers again is.
func TestWatchdogWantsAnswers(t *testing.T) {
	heard := listenForState(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	var log bytes.Buffer
	m, err := WhoStarted(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || m.watchdog != 20*time.Millisecond {
		t.Fatalf("%+v, %v", m, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls atomic.Int32
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Watch(ctx, func(ctx context.Context) (string, error) {
			if calls.Add(1) <= 2 {
				select {} // a lock that nobody gives back
			}
			return "well again", nil
		})
	}()
	b := make([]byte, 512)
	n, err := heard.Read(b)
	if err != nil || string(b[:n]) != "WATCHDOG=1\nSTATUS=well again" {
		t.Errorf("%q, %v", b[:n], err)
	}
	cancel()
	<-ended
	if got := strings.Count(log.String(), "does not answer itself"); got < 2 || !strings.Contains(log.String(), "no answer within 10ms") {
		t.Errorf("%d lines, want at least 2:\n%s", got, &log)
	}
}

// Another process's watchdog is not ours.
func TestWatchdogOfAnother(t *testing.T) {
	listenForState(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	m, err := WhoStarted(slog.New(slog.DiscardHandler))
	if err != nil || m.watchdog != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}
