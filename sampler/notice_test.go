// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// A shell that starts a program: we hear of the fork, the exec, the code that
// it maps and the exit, in that order.
func TestNotices(t *testing.T) {
	n, err := sampler.OpenNotices()
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	truth, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", truth+"; exit 0")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	shell := c.Process.Pid

	var heard []sampler.NoticeKind
	child := 0
	hear := func(notice sampler.Notice) {
		switch {
		case notice.Kind == sampler.NoticeForked && notice.Parent == shell:
			child = notice.PID
		case notice.PID != child || child == 0:
			return
		}
		if notice.Kind == sampler.NoticeMapped && (notice.Mapping.Kind != profile.MappingObject || !strings.HasSuffix(notice.Mapping.Path, "/true")) {
			return
		}
		heard = append(heard, notice.Kind)
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if n.Wait(); true {
			n.Read(hear)
		}
		if len(heard) > 0 && heard[len(heard)-1] == sampler.NoticeExited {
			break
		}
	}
	want := []sampler.NoticeKind{sampler.NoticeForked, sampler.NoticeExecuted, sampler.NoticeMapped, sampler.NoticeExited}
	if len(heard) != len(want) {
		t.Fatalf("heard %v, want %v", heard, want)
	}
	for i := range want {
		if heard[i] != want[i] {
			t.Fatalf("heard %v, want %v", heard, want)
		}
	}
	n.Stop()
	if n.Wait() {
		t.Error("Wait went on after Stop")
	}
}

// Records come from the kernel, but what is in them (paths) does not.
func FuzzParseRecord(f *testing.F) {
	mmap2 := make([]byte, 72)
	binary.NativeEndian.PutUint32(mmap2, 10)
	f.Add(append(mmap2, "/usr/lib/x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...))
	f.Add(make([]byte, 32))
	f.Add([]byte{3, 0, 0, 0, 0, 0x20, 32, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return // Read never passes less than a header
		}
		if n, ok := sampler.ParseRecord(b); ok && n.Kind == 0 {
			t.Errorf("a notice without a kind from %x", b)
		}
	})
}
