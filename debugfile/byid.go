// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// ByID returns the debug file of an object of which no more is known than its
// build ID, to be closed by the caller: the one that the host has, or one from
// a server. Without any the error is ErrNone.
func (f *Finder) ByID(id profile.BuildID) (*object.File, error) {
	s := search{want: id}
	for _, dir := range f.dirs {
		s.byID(f.host, dir)
	}
	s.byServer(f.server)
	if s.found.File == nil {
		return nil, s.none()
	}
	return s.found.File, nil
}
