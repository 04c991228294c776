// SPDX-License-Identifier: Apache-2.0

// Package profiler runs sessions on this host. [Recorder.Record] is the whole
// pipeline in one function: find the targets, sample, collect, symbolize;
// [Recording] is the same in steps.
package profiler

import (
	"context"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/symbol"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// Recorder runs sessions, any number of them at once. What one learns of files
// serves those that follow.
type Recorder struct {
	// Debug says where debug files are looked for besides the usual places.
	Debug debugfile.Options

	tables *unwind.Cache
	kernel *sampler.TableStore // nil: each session has its own
	names  *symbol.Cache
	spare  spare
	idle   idle
	tidy   tidy
}

// NewRecorder makes a recorder that keeps up to so many bytes of unwind tables,
// and of names, in memory from session to session. Its sessions share the tables
// in the kernel, some of which stay there until Close.
func NewRecorder(tables int64, names int) *Recorder {
	r := &Recorder{kernel: new(sampler.TableStore), tables: unwind.NewCache(tables), names: symbol.NewCache(names)}
	r.spare.tables = r.kernel
	return r
}

// Tables tells what is kept of unwind tables.
func (r *Recorder) Tables() unwind.CacheStats { return r.tables.Stats() }

// Record is a session by itself, see [Recorder.Record].
func Record(ctx context.Context, spec session.Spec, progress func(session.Progress)) (*profile.Profile, error) {
	return new(Recorder).Record(ctx, spec, progress)
}

// Record samples the targets of spec until its duration is over, ctx is
// canceled or the last target has exited, whichever comes first; the profile
// says which (Meta.Ended). Canceling is not an error: what was collected up to
// then is returned.
//
// progress, unless nil, is called about four times a second, between drains;
// it must not block.
//
// Errors are *session.Error where the user can do something about them. With
// session.ErrNoSamples the profile is returned too, for its metadata.
func (r *Recorder) Record(ctx context.Context, spec session.Spec, progress func(session.Progress)) (*profile.Profile, error) {
	rec, err := r.Open(spec)
	if err != nil {
		return nil, err
	}
	defer rec.Close()
	if err := rec.Start(); err != nil {
		return nil, err
	}
	return rec.Run(ctx, progress)
}
