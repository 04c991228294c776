// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"errors"
	"strings"

	"github.com/carverauto/serviceradar-profiler/session"
)

// onTheWay says whether a code is about how the host is reached, and not by the
// host: certificates are renewed, names and firewalls mended.
func onTheWay(code string) bool {
	switch code {
	case "tls_refused", "handshake_failed", "no_tls", "tls_too_old", "closed_at_once", "workload_api_unavailable",
		"unreachable", "connection_lost", "deadline", "profiler_not_trusted", "profiler_unavailable", "profiler_slow":
		return true
	}
	return strings.HasPrefix(code, "certificate") || strings.HasPrefix(code, "server_")
}

// outcome is what an error of a call to a host says.
func outcome(err error) (sight, *session.Error) {
	var e *session.Error
	if !errors.As(err, &e) {
		e = &session.Error{Code: "host_error", Kind: session.ErrUnavailable, Problem: "the host could not be asked", Cause: err, Remedy: "see whether its profiler runs"}
		return sawNothing, e
	}
	switch {
	case e.Code == "other_instance":
		return sawOther, e
	case e.Code == "service_stopping":
		return sawStopping, e
	case onTheWay(e.Code), errors.Is(e.Kind, session.ErrUnavailable):
		return sawNothing, e
	case errors.Is(e.Kind, session.ErrBusy):
		return sawBusy, e
	case errors.Is(e.Kind, session.ErrNotFound):
		return sawUnknown, e
	case e.Code == "not_supported", e.Code == "profiler_too_old":
		return sawRefusal, &session.Error{Code: "no_profiling", Kind: errors.ErrUnsupported, Problem: "what answers there knows no profiling", Cause: e,
			Remedy: "install serviceradar-profiler there, or an agent of this version before it"}
	case session.KindName(e.Kind) == "":
		return sawFault, e
	}
	return sawRefusal, e
}
