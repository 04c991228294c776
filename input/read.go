// SPDX-License-Identifier: Apache-2.0

// Package input is profiles that come from elsewhere: from files, and from
// services. They are read within a bound, and what is wrong with them is said in
// words of users.
package input

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Stdin is how users name standard input.
const Stdin = "-"

// Limit is how large a profile may be that is read, in MiB as it is when nothing
// is compressed; zero stands for the default.
type Limit int64

// LimitFlag is what users set it by.
const LimitFlag = "max-profile"

// DefaultLimit is the usual one.
const DefaultLimit Limit = pprof.MaxSize >> 20

// Bytes checks it.
func (l Limit) Bytes() (int64, error) {
	size := int64(cmp.Or(l, DefaultLimit))
	if size < 1 || size > MaxFetched>>20 {
		return 0, session.Invalid("bad_max_profile", fmt.Sprintf("--%s is %d", LimitFlag, size), fmt.Sprintf("choose from 1 to %d", MaxFetched>>20))
	}
	return size << 20, nil
}

// Read reads a profile from anywhere.
func (l Limit) Read(from io.Reader) (*profile.Profile, error) {
	size, err := l.Bytes()
	if err != nil {
		return nil, err
	}
	return pprof.ReadUpTo(from, size)
}

// ReadFile reads a profile from a file or from standard input.
func (l Limit) ReadFile(ctx context.Context, file string) (*profile.Profile, error) {
	in, err := open(ctx, file)
	if err != nil {
		return nil, Unreadable(file, err)
	}
	defer in.Close()
	p, err := l.Read(in)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, Unreadable(file, err)
	}
	return p, nil
}

// open opens a file. Standard input ends with ctx, since nobody can say when
// somebody writes there.
func open(ctx context.Context, file string) (io.ReadCloser, error) {
	if file != Stdin {
		return os.Open(file)
	}
	in, out := io.Pipe()
	stop := context.AfterFunc(ctx, func() { out.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(out, os.Stdin)
		stop()
		out.CloseWithError(err)
	}()
	return in, nil
}

// said is a file's name in a sentence.
func said(file string) string {
	if file == Stdin {
		return "from standard input"
	}
	return file
}

// Unreadable says why a profile cannot be read.
func Unreadable(file string, err error) *session.Error {
	var foreseen *session.Error
	if errors.As(err, &foreseen) {
		return foreseen
	}
	e := &session.Error{Code: "profile_not_readable", Kind: fs.ErrInvalid, Cause: session.Cause(err),
		Problem: "cannot read the profile " + said(file), Remedy: "name a file that exists and that you may read"}
	for _, known := range []struct {
		err          error
		code, remedy string
	}{
		{pprof.ErrFormat, "not_a_profile", "what srprof record --output x.pb.gz writes can be read"},
		{pprof.ErrDamaged, "profile_damaged", "copy it again, or record again"},
		{pprof.ErrTooLarge, "profile_too_large", "raise --" + LimitFlag + " where there is memory for it, or record for a shorter time, or at a lower --frequency"},
		{pprof.ErrValues, "not_a_cpu_profile", "only profiles of CPU use can be read"},
	} {
		if errors.Is(err, known.err) {
			e.Code, e.Remedy = known.code, known.remedy
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind = fs.ErrPermission
	case errors.Is(err, fs.ErrNotExist):
		e.Kind = fs.ErrNotExist
	}
	return e
}

// Name is a file's name without what tells its format.
func Name(file string) string {
	base := filepath.Base(file)
	for _, ext := range []string{".pb.gz", ".pprof", ".gz"} {
		if name, ok := strings.CutSuffix(base, ext); ok && name != "" {
			return name
		}
	}
	return base
}
