// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/version"
)

// checking are the checks of one configuration at work.
type checking struct {
	checks *checks.Checks
	end    context.CancelFunc
	ended  chan struct{}
}

// beginChecking asks agents for their checks from now on, and ends who did so
// before. There may be none to ask for.
func (s *service) beginChecking(c *settings, r *reached) error {
	var former *checks.Checks
	if s.checking != nil {
		former = s.checking.checks
		s.endChecking()
	}
	if !c.Config.Reports() {
		return nil
	}
	made, err := checks.New(checks.Options{Config: c.Config, Agents: r.checkers(), Core: s.core, Fleet: s.poller, Queue: s.queue,
		Dir: filepath.Join(s.dir.Path, "checks"), Version: version.String(), Log: s.Log, Former: former})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	w := &checking{checks: made, end: end, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		made.Run(ctx)
	}()
	s.checking = w
	return nil
}

func (s *service) endChecking() {
	if s.checking != nil {
		s.checking.end()
		<-s.checking.ended
		s.checking = nil
	}
}
