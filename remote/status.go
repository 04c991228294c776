// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/carverauto/serviceradar-profiler/session"
)

// errorDomain is whose codes the reasons in google.rpc.ErrorInfo are: what
// tells our errors from those of a library or of another's server.
const errorDomain = "serviceradar-profiler"

// errInternal is the kind of what nobody foresaw: the fault is not the
// caller's, and to try again does not help.
var errInternal = errors.New("internal error")

// statuses is the table of kinds of failure and their gRPC codes. Where several
// kinds have one code, the first is meant by an error that does not say more.
var statuses = []struct {
	kind error
	code codes.Code
}{
	{session.ErrInvalid, codes.InvalidArgument},
	{session.ErrNotFound, codes.NotFound},
	{fs.ErrNotExist, codes.NotFound},
	{fs.ErrPermission, codes.PermissionDenied},
	{fs.ErrPermission, codes.Unauthenticated},
	{session.ErrBusy, codes.ResourceExhausted},
	{session.ErrTooLarge, codes.ResourceExhausted},
	{session.ErrUnavailable, codes.Unavailable},
	{session.ErrNotReady, codes.FailedPrecondition},
	{session.ErrNoSamples, codes.FailedPrecondition},
	{session.ErrCanceled, codes.Aborted},
	{errors.ErrUnsupported, codes.Unimplemented},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{errInternal, codes.Internal},
}

func codeOfKind(err error) codes.Code {
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.code
		}
	}
	return codes.Internal
}

// KindOf is the kind of failure that a code of gRPC means.
func KindOf(code codes.Code) error {
	for _, s := range statuses {
		if s.code == code {
			return s.kind
		}
	}
	return errInternal
}

// maxErrorText bounds each text of an error that travels: they are in a header
// of HTTP/2, twice, and clients in other languages take no more than 8 KiB.
const maxErrorText = 640

// statusOf is the status that answers a call that failed.
func statusOf(err error) *status.Status {
	if s, ok := status.FromError(err); ok { // none, or one of gRPC's own: the client is gone
		return s
	}
	e := ErrorOf(err)
	m := errorMessage(e)
	s := status.New(codeOfKind(e.Kind), (&session.Error{Problem: m.Problem, Remedy: m.Remedy, Cause: textError(m.Cause)}).Error())
	info := &errdetails.ErrorInfo{Reason: m.Code, Domain: errorDomain, Metadata: map[string]string{
		"kind": m.Kind, "problem": m.Problem, "remedy": m.Remedy, "cause": m.Cause,
	}}
	if e.Undone {
		info.Metadata["undone"] = "true"
	}
	details := []protoadapt.MessageV1{info}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	full, err := s.WithDetails(details...)
	if err != nil { // then the sentence must do
		return s
	}
	return full
}

// ErrorOf is the error as a *session.Error with a kind, whatever it was.
func ErrorOf(err error) *session.Error {
	var e *session.Error
	if errors.As(err, &e) {
		if e.Kind != nil {
			return e
		}
		with := *e
		with.Kind = errInternal
		return &with
	}
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return &session.Error{Code: codeNames[s.code], Kind: s.kind, Problem: err.Error()}
		}
	}
	return &session.Error{Code: codeNames[codes.Internal], Kind: errInternal, Problem: err.Error(),
		Remedy: "this is a fault of the profiler: its log says more"}
}

// CodeDeadline is the code of an error of its own that says that a call had no
// more time.
const CodeDeadline = "deadline"

// codeNames are the codes of errors that have none of their own.
var codeNames = map[codes.Code]string{
	codes.InvalidArgument:    "invalid",
	codes.NotFound:           "not_found",
	codes.PermissionDenied:   "not_permitted",
	codes.Unauthenticated:    "not_permitted",
	codes.ResourceExhausted:  "busy",
	codes.Unavailable:        "unreachable",
	codes.FailedPrecondition: "not_ready",
	codes.Unimplemented:      "not_supported",
	codes.Aborted:            "canceled",
	codes.Canceled:           "call_canceled",
	codes.DeadlineExceeded:   CodeDeadline,
	codes.Internal:           "internal",
}

// carriedError is the error that one of our servers put into a status; nil if
// the status is of somebody else's making.
func carriedError(s *status.Status) *session.Error {
	var info *errdetails.ErrorInfo
	var retry time.Duration
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				info = d
			}
		case *errdetails.RetryInfo:
			retry = max(d.GetRetryDelay().AsDuration(), 0)
		}
	}
	if info == nil {
		return nil
	}
	said := info.GetMetadata()
	e := &session.Error{
		Code: info.GetReason(), Kind: kindNamed(said["kind"], s.Code()), RetryAfter: retry,
		Problem: said["problem"], Remedy: said["remedy"], Cause: textError(said["cause"]), Undone: said["undone"] == "true",
	}
	if e.Problem == "" {
		e.Problem = s.Message()
	}
	return e
}

// kindName names a kind on the wire; kindNamed is the way back, which makes of
// a kind that a newer peer has what the code says.
func kindName(kind error) string {
	if name := session.KindName(kind); name != "" {
		return name
	}
	for _, k := range otherKinds {
		if errors.Is(kind, k.kind) {
			return k.name
		}
	}
	return "internal"
}

func kindNamed(name string, code codes.Code) error {
	if kind := session.KindNamed(name); kind != nil {
		return kind
	}
	for _, k := range otherKinds {
		if k.name == name {
			return k.kind
		}
	}
	return KindOf(code)
}

// otherKinds are those that no error of a session has, but one of a call.
var otherKinds = []struct {
	name string
	kind error
}{
	{"call_canceled", context.Canceled},
	{"deadline", context.DeadlineExceeded},
	{"internal", errInternal},
}
