// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/carverauto/serviceradar-profiler/session"
)

// answers is a runner that answers each Start with the next thing to do.
type answers struct {
	session.Runner
	mu   sync.Mutex
	next []func() error
}

func (a *answers) Start(context.Context, session.Spec) (session.Session, error) {
	a.mu.Lock()
	do := a.next[0]
	a.next = a.next[1:]
	a.mu.Unlock()
	return session.Session{ID: "x"}, do()
}

// Whoever asks is told whether nothing was done, for sure: then it may be asked
// for elsewhere. What may have been done is never called undone.
func TestUndone(t *testing.T) {
	other := &session.Error{Code: "other_instance", Kind: session.ErrUnavailable, Problem: "another life", Remedy: "ask again", Undone: true}
	notThere := &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: "there is no process", Remedy: "look again"}
	refuse := func(e *session.Error) func(func()) error { return func(func()) error { return e } }
	breaks := func(breakOff func()) error { breakOff(); return nil }
	for name, c := range map[string]struct {
		does   []func(breakOff func()) error
		code   string
		undone bool
	}{
		"refused as undone":                   {[]func(func()) error{refuse(other)}, "other_instance", true},
		"refused":                             {[]func(func()) error{refuse(notThere)}, "no_such_process", false},
		"broke, then refused":                 {[]func(func()) error{breaks, refuse(other)}, "other_instance", false},
		"broke each time":                     {slices.Repeat([]func(func()) error{breaks}, callTries), "connection_lost", false},
		"broke, and then nobody is there":     {nil, "unreachable", false},
		"nobody was there in the first place": {nil, "unreachable", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runner := &answers{}
			address := listen(t, "", func(s *grpc.Server) { NewServer(runner, 0).Register(s) })
			through := newCutter(t, address)
			client := dialed(t, through.Addr().String(), insecure.NewCredentials())
			for _, do := range c.does {
				runner.next = append(runner.next, func() error { return do(through.cutAll) })
			}
			switch {
			case c.does == nil && c.undone:
				through.Close()
			case c.does == nil:
				runner.next = append(runner.next, func() error { through.Close(); through.cutAll(); return nil })
			}
			_, err := client.Start(t.Context(), session.Spec{PIDs: []int{1}, Duration: time.Second, Frequency: 99})
			var e *session.Error
			if !errors.As(err, &e) || e.Code != c.code || e.Undone != c.undone {
				t.Errorf("%#v", err)
			}
		})
	}
}
