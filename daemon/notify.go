// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is who started this program and wants to hear of its state, by the
// protocol of sd_notify(3): systemd, or nobody (nil).
type Manager struct {
	conn     *net.UnixConn
	watchdog time.Duration // it ends a program that was silent for longer; 0: it does not
	log      *slog.Logger
}

// WhoStarted finds it in the environment.
func WhoStarted(log *slog.Logger) (*Manager, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@…", which is abstract, too
	if err != nil {
		return nil, fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	m := &Manager{conn: conn, log: log}
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		us, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 63)
		if err == nil {
			m.watchdog = time.Duration(us) * time.Microsecond
		}
	}
	return m, nil
}

// tell sends assignments. That nobody hears them is no reason to end.
func (m *Manager) tell(lines ...string) {
	if m == nil {
		return
	}
	if _, err := m.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		m.log.Warn("the service manager cannot be told of the state", "state", lines[0], "error", err.Error())
	}
}

// Ready tells that the service serves.
func (m *Manager) Ready(status string) { m.tell("READY=1", "STATUS="+status) }

// Stopping tells that it is about to end.
func (m *Manager) Stopping(status string) {
	m.tell("STOPPING=1", "STATUS="+status)
}

// Reloading is followed by ready.
func (m *Manager) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("the clock cannot be read", "error", err.Error())
	}
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000), "STATUS=reading the configuration again")
}

// errSilent says that there was no answer in time.
var errSilent = errors.New("no answer")

// Watch tells, twice as often as is asked for, that the service answers, as
// long as it does. Nobody is told of a service that runs but hangs, and the
// manager starts it anew. It returns when ctx is over.
func (m *Manager) Watch(ctx context.Context, answers func(context.Context) (string, error)) {
	if m == nil || m.watchdog <= 0 {
		return
	}
	every := m.watchdog / 2
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		status, err := inTime(ctx, every, answers)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.log.Error("this service does not answer itself; it will be started anew", "error", err.Error(), "watchdog_seconds", m.watchdog.Seconds())
		default:
			m.tell("WATCHDOG=1", "STATUS="+status)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// inTime asks, and does not wait for what hangs.
func inTime(ctx context.Context, most time.Duration, answers func(context.Context) (string, error)) (string, error) {
	type answer struct {
		status string
		err    error
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	got := make(chan answer, 1)
	go func() {
		status, err := answers(ctx)
		got <- answer{status, err}
	}()
	select {
	case a := <-got:
		return a.status, a.err
	case <-ctx.Done():
		return "", fmt.Errorf("%w within %v", errSilent, most)
	}
}
