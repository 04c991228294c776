// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// configError makes an error of package config one of ours.
func configError(err error) error {
	var c *config.Error
	if !errors.As(err, &c) {
		return err
	}
	e := &session.Error{Code: c.Code, Kind: session.ErrInvalid, Problem: strings.ReplaceAll(err.Error(), "\n", "; ")}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind = fs.ErrPermission
	case errors.Is(err, fs.ErrNotExist): // only if somebody has named it
		e.Problem, e.Cause = c.File+": the contexts cannot be read", c.Cause
		e.Remedy = "name another file: $" + ConfigVariable + ", or make this one: srprof context set"
	}
	return e
}

// CertificateError makes an error of package auth one of ours.
func CertificateError(err error) error {
	var a *auth.Error
	if !errors.As(err, &a) {
		return err
	}
	e := &session.Error{Code: a.Code, Kind: session.ErrInvalid, Problem: a.Problem, Remedy: a.Remedy, Cause: a.Cause}
	if errors.Is(a.Cause, fs.ErrPermission) {
		e.Kind = fs.ErrPermission
	}
	return e
}
