// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// A service that cannot sample stays, says why to everybody, and is well as soon
// as it can. That a target may not be looked at is no trouble of the service.
func TestHealthRecovers(t *testing.T) {
	s := sessions(t, nil)
	spec := session.Spec{PIDs: []int{busy(t).PID}, Frequency: 99, Duration: 100 * time.Millisecond}
	t.Setenv(sampler.EnvBuild, "2.6") // which there is not
	const why = "there is no such build"
	if err := s.Prepare(); err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("%v", err)
	}
	for range 2 {
		if h := s.Health(); h.Healthy || !strings.Contains(h.Reason, why) {
			t.Errorf("%+v", h)
		}
		if _, err := s.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v", err)
		}
	}
	if err := os.Unsetenv(sampler.EnvBuild); err != nil {
		t.Fatal(err)
	}
	started(t, s, spec)
	if h := s.Health(); !h.Healthy || h.Reason != "" {
		t.Errorf("%+v", h)
	}
	if _, err := s.Start(t.Context(), session.Spec{PIDs: []int{1 << 22}, Frequency: 99, Duration: time.Second}); err == nil {
		t.Error("a process that cannot be is sampled")
	}
	if h := s.Health(); !h.Healthy {
		t.Errorf("after a bad PID: %+v", h)
	}
}
