// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// ServerOptions says which debuginfod servers are asked for what is on no disk,
// and how much they may cost. They learn the build IDs of what is profiled.
type ServerOptions struct {
	URLs    []string      // asked in this order; none: nobody is asked
	MaxFile int64         // bytes of one file; 0 means DefaultMaxFile
	Time    time.Duration // for all files of a session together; 0 means DefaultTime
	Cache   Cache         // where files are kept
}

// The defaults of ServerOptions.
const (
	DefaultMaxFile = 256 << 20
	DefaultTime    = 20 * time.Second
)

// maxRedirects is how often a server may send us elsewhere for one file.
const maxRedirects = 3

// Validate checks the URLs.
func (o *ServerOptions) Validate() error {
	for _, s := range o.URLs {
		u, err := url.Parse(s)
		if err != nil {
			return err
		}
		if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("%q is not the URL of an HTTP server", s)
		}
	}
	return nil
}

// server asks debuginfod servers (debuginfod(8), "WEBAPI"): the debug file of a
// build ID is at /buildid/ID/debuginfo. What it has asked for in vain it does
// not ask for again.
type server struct {
	options ServerOptions
	client  http.Client
	context context.Context
	cancel  context.CancelFunc
	failed  map[profile.BuildID]error
}

var errTooBig = errors.New("the file is too big")

// newServer starts the time.
func newServer(o ServerOptions) *server {
	if o.MaxFile == 0 {
		o.MaxFile = DefaultMaxFile
	}
	if o.Time == 0 {
		o.Time = DefaultTime
	}
	s := &server{options: o, failed: map[profile.BuildID]error{}}
	s.context, s.cancel = context.WithTimeout(context.Background(), o.Time)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	s.client = http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("redirected more than %d times", maxRedirects)
		}
		if r.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
			return errors.New("redirected from https to http")
		}
		return nil
	}}
	return s
}

func (s *server) close() {
	s.cancel()
	s.client.CloseIdleConnections()
}

// find returns the debug file of a build ID, from the cache or a server.
func (s *server) find(id profile.BuildID) (*object.File, error) {
	if !id.IsGNU() {
		return nil, errNoID
	}
	if o := s.options.Cache.open(id); o != nil {
		return o, nil
	}
	if err := s.failed[id]; err != nil {
		return nil, err
	}
	var all error
	for _, base := range s.options.URLs {
		o, err := s.fetch(base, id)
		if err == nil {
			return o, nil
		}
		all = errors.Join(all, fmt.Errorf("debuginfod at %s: %w", host(base), err))
		if s.context.Err() != nil {
			break
		}
	}
	s.failed[id] = all
	return nil, all
}

func host(base string) string {
	if u, err := url.Parse(base); err == nil {
		return u.Host
	}
	return base
}

// fetch gets one file from one server into the cache. No file takes more than
// half of the time that is left, so that a slow one leaves some to others.
func (s *server) fetch(base string, id profile.BuildID) (*object.File, error) {
	ctx := s.context
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	at := strings.TrimRight(base, "/") + "/buildid/" + string(id) + "/debuginfo"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotFound:
		return nil, errors.New("it has no file of this build ID")
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %q", answer.Status)
	case answer.ContentLength > s.options.MaxFile:
		return nil, fmt.Errorf("%w: %d MB", errTooBig, answer.ContentLength>>20)
	}
	return s.options.Cache.add(id, func(f *os.File) error {
		// One byte more than allowed tells that there is more, compressed or not.
		n, err := io.Copy(f, io.LimitReader(answer.Body, s.options.MaxFile+1))
		if err == nil && n > s.options.MaxFile {
			err = fmt.Errorf("%w: more than %d MB", errTooBig, s.options.MaxFile>>20)
		}
		return withoutURL(err)
	})
}

// withoutURL leaves out the URL, which is long and known.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it took too long: %w", context.DeadlineExceeded)
	}
	return err
}
