// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os"
	"sync"
	"testing"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// An object is met again, in another target or after an exec, while somebody
// reads its headers. (What can go wrong only the race detector sees.)
func TestObjectsWhileTheyAreRead(t *testing.T) {
	pid := os.Getpid()
	ms, err := process.ReadMaps(pid)
	if err != nil {
		t.Fatal(err)
	}
	var o objects
	defer o.close()
	self := &target{files: process.OpenFiles(pid)}
	self.id.PID = pid
	defer self.files.Close()
	read := 0
	for i := range ms {
		f := o.of(self, &ms[i])
		if f == nil {
			continue
		}
		var reads sync.WaitGroup
		reads.Go(func() {
			if _, err := f.get(); err != nil {
				t.Errorf("%s: %v", ms[i].Path, err)
			}
		})
		if again := o.of(self, &ms[i]); again != f {
			t.Errorf("%s is two objects", ms[i].Path)
		}
		reads.Wait()
		if read++; ms[i].Kind == profile.MappingVDSO {
			t.Log("the vDSO is one of them")
		}
	}
	if read < 2 {
		t.Errorf("%d objects are mapped", read)
	}
}
