// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// answering is a runner whose Get answers with an error; its other calls panic.
type answering struct {
	session.Runner
	err error
}

func (a *answering) Get(context.Context, session.ID) (session.Session, error) {
	return session.Session{}, a.err
}

// Each kind arrives as what it was, with all that was said, and has the code
// that a plain gRPC client expects.
func TestKindsTravel(t *testing.T) {
	for kind, code := range map[error]codes.Code{
		session.ErrInvalid:       codes.InvalidArgument,
		session.ErrNotFound:      codes.NotFound,
		fs.ErrNotExist:           codes.NotFound,
		fs.ErrPermission:         codes.PermissionDenied,
		session.ErrBusy:          codes.ResourceExhausted,
		session.ErrTooLarge:      codes.ResourceExhausted,
		session.ErrUnavailable:   codes.Unavailable,
		session.ErrNotReady:      codes.FailedPrecondition,
		session.ErrNoSamples:     codes.FailedPrecondition,
		session.ErrCanceled:      codes.Aborted,
		errors.ErrUnsupported:    codes.Unimplemented,
		context.Canceled:         codes.Canceled,
		context.DeadlineExceeded: codes.DeadlineExceeded,
		nil:                      codes.Internal,
	} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			sent := &session.Error{Code: "some_code", Kind: kind, Problem: "é went wrong", Remedy: "mend it",
				Cause: errors.New("a cause"), RetryAfter: 1500 * time.Millisecond}
			s := statusOf(fmt.Errorf("on the way: %w", sent))
			if s.Code() != code || s.Message() != sent.Error() {
				t.Errorf("%v: %s", s.Code(), s.Message())
			}
			if kind == nil {
				kind = errInternal
			}
			_, err := serveRunner(t, &answering{err: sent}).Get(t.Context(), "x")
			var got *session.Error
			if !errors.As(err, &got) || got.Kind != kind || got.Code != sent.Code || got.Error() != sent.Error() || got.RetryAfter != sent.RetryAfter {
				t.Errorf("%#v", err)
			}
		})
	}
}

// Errors that are of a kind, but not ours, are translated too.
func TestPlainErrorsTravel(t *testing.T) {
	for code, err := range map[string]error{
		"not_found":     fmt.Errorf("open: %w", session.ErrNotFound),
		"not_permitted": &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission},
		"deadline":      context.DeadlineExceeded,
		"internal":      errors.New("odd"),
	} {
		_, got := serveRunner(t, &answering{err: err}).Get(t.Context(), "x")
		var e *session.Error
		if !errors.As(got, &e) || e.Code != code || !strings.Contains(e.Error(), err.Error()) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// Every kind that package session has is in the table.
func TestAllKindsHaveCodes(t *testing.T) {
	for _, name := range strings.Fields("invalid no_samples not_found not_ready busy unavailable too_large canceled no_process permission unsupported") {
		kind := session.KindNamed(name)
		if kind == nil {
			t.Fatalf("there is no kind %s", name)
		}
		if codeOfKind(kind) == codes.Internal {
			t.Errorf("%s has no code", name)
		}
	}
}

// Statuses of others' making get a code and a kind too.
func TestForeignStatuses(t *testing.T) {
	l := &link{address: "host:1"}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		var e *session.Error
		err := l.explain(t.Context(), status.Error(code, "said so"))
		if !errors.As(err, &e) || e.Code == "" || e.Kind == nil || !strings.Contains(e.Error(), "host:1") || e.Remedy == "" {
			t.Errorf("%v: %v", code, err)
		}
	}
}

// Clients in other languages take 8 KiB of headers.
func TestLongErrorsFit(t *testing.T) {
	long := strings.Repeat("ü", 1<<20)
	s := statusOf(&session.Error{Code: "c", Kind: session.ErrInvalid, Problem: long, Remedy: long, Cause: errors.New(long)})
	if n := proto.Size(s.Proto())*4/3 + 3*len(s.Message()); n > 14<<10 {
		t.Errorf("%d bytes", n)
	}
}

// A call that panics is answered, logged with its stack, and does not end the
// service.
func TestPanics(t *testing.T) {
	var log strings.Builder
	client := serveRunner(t, &answering{}) // its other calls panic
	for range 3 {
		_, err := client.Cancel(t.Context(), "x")
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "internal" {
			t.Errorf("%v", err)
		}
		_, err = client.Fetch(t.Context(), "x", session.Want{})
		if !errors.As(err, &e) || e.Code != "internal" {
			t.Errorf("%v", err)
		}
	}
	if _, err := client.Get(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	err := survive(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), "/m", &sessionv1.GetRequest{Id: "some-id"}, "boom", nil)
	if status.Code(err) != codes.Internal || !strings.Contains(log.String(), "boom") || !strings.Contains(log.String(), "status_test.go") || !strings.Contains(log.String(), "method=/m session=some-id") {
		t.Errorf("%v, logged: %s", err, log.String())
	}
}

// What is too long is refused before it is held.
func TestLongRequest(t *testing.T) {
	client := serveRunner(t, &answering{})
	_, err := client.Get(t.Context(), session.ID(strings.Repeat("x", maxRequest+1)))
	var e *session.Error
	if !errors.As(err, &e) || !errors.Is(err, session.ErrBusy) || !strings.Contains(err.Error(), "larger than max") {
		t.Error(err)
	}
}
