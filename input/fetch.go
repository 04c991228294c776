// SPDX-License-Identifier: Apache-2.0

package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// MaxFetched keeps a profiler from filling the disk.
const MaxFetched = 1 << 30

// Fetched is a profile as it came, in a file without a name.
type Fetched struct {
	Session session.Session
	Size    int64
	file    *os.File
}

// Fetch keeps a profile in a file, so that it takes no memory and nothing is
// written that did not arrive whole.
func Fetch(ctx context.Context, there session.Runner, id session.ID, host string) (*Fetched, error) {
	content, err := there.Fetch(ctx, id, session.Want{Format: session.FormatPprof, Host: host})
	if err != nil {
		return nil, err
	}
	defer content.Body.Close()
	if content.Size > MaxFetched {
		return nil, &session.Error{Code: "profile_too_large", Kind: session.ErrTooLarge, Problem: fmt.Sprintf("the profile has %d MB", content.Size>>20),
			Remedy: "record for a shorter time, or at a lower --frequency"}
	}
	file, err := os.CreateTemp("", "srprof-*")
	if err != nil {
		return nil, notKept(err)
	}
	f := &Fetched{Session: content.Session, file: file}
	err = os.Remove(file.Name())
	if err == nil {
		f.Size, err = io.Copy(file, io.LimitReader(content.Body, MaxFetched))
	}
	if err != nil {
		file.Close()
		if pe := new(fs.PathError); errors.As(err, &pe) { // about the file, not about what comes
			return nil, notKept(err)
		}
		return nil, fmt.Errorf("fetch the profile: %w", err)
	}
	return f, nil
}

// notKept says why there is no place for a profile that comes.
func notKept(err error) error {
	e := &session.Error{Code: "profile_not_kept", Kind: session.ErrTooLarge, Problem: "cannot keep the profile that comes in " + os.TempDir(), Cause: session.Cause(err),
		Remedy: "make room there, or name another directory: $TMPDIR"}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind = fs.ErrPermission
	}
	return e
}

// Reader reads it from its start.
func (f *Fetched) Reader() io.Reader { return io.NewSectionReader(f.file, 0, f.Size) }

// Close forgets it.
func (f *Fetched) Close() error { return f.file.Close() }

// Read reads it as a profile.
func (f *Fetched) Read(l Limit) (*profile.Profile, error) {
	p, err := l.Read(f.Reader())
	if err == nil {
		return p, nil
	}
	e := Unreadable("of session "+string(f.Session.ID), err)
	if errors.Is(err, pprof.ErrTooLarge) {
		e.Remedy = "take it as it is: srprof fetch ID --output x.pb.gz; or raise --" + LimitFlag + " where there is memory for it"
	}
	return nil, e
}
