// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// jitDump assembles a file: a record of new code for each, the others first.
func jitDump(loads ...written) []byte {
	b := le.AppendUint32(nil, jitMagic)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 40)
	b = append(b, make([]byte, 28)...)
	record := func(kind uint32, body []byte) {
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, uint32(jitRecord+len(body)))
		b = le.AppendUint64(b, 7)
		b = append(b, body...)
	}
	record(4, make([]byte, 48)) // unwind information
	for _, w := range loads {
		body := make([]byte, 16)
		body = le.AppendUint64(body, uint64(w.start))
		body = le.AppendUint64(body, uint64(w.limit-w.start))
		body = le.AppendUint64(body, 1)
		body = append(body, "code "+w.start.String()+"\x00"...)
		record(jitCodeLoad, append(body, bytes.Repeat([]byte{0xcc}, int(min(w.limit-w.start, 1<<17)))...))
		record(2, make([]byte, 24)) // lines
	}
	return b
}

func openJITDump(b []byte) *JITDump {
	return NewJITDump(bytes.NewReader(b), func() (int64, error) { return int64(len(b)), nil })
}

func TestJITDump(t *testing.T) {
	whole := jitDump(written{0, 0x1000, 0x2000}, written{0, 0x100000, 0x120000}, written{0, 0x1800, 0x1900}, written{0, 0x1880, 0x2100})
	want := map[profile.ObjAddr]string{
		0xfff: "", 0x1000: "code 0x1000", 0x17ff: "code 0x1000", 0x1800: "code 0x1800", 0x187f: "code 0x1800",
		0x1880: "code 0x1880", 0x20ff: "code 0x1880", 0x2100: "", 0x100000: "code 0x100000", 0x11ffff: "code 0x100000",
	}
	findNames(t, openJITDump(whole), want)
	// The last record is still being written.
	findNames(t, openJITDump(whole[:len(whole)-41]), map[profile.ObjAddr]string{0x1800: "code 0x1800", 0x1880: "code 0x1800", 0x1900: "code 0x1000"})
	for _, bad := range []string{"", "JiTD", strings.Repeat("x", 100)} {
		if err := openJITDump([]byte(bad)).Find([]profile.ObjAddr{1}, func(int, Symbol) { t.Error("found a name") }); err == nil {
			t.Errorf("%q is read without an error", bad)
		}
	}
}

func TestIsJITDump(t *testing.T) {
	for path, want := range map[string]bool{
		"/tmp/jit-42.dump": true, "/home/x/.debug/jit/1/jit-7.dump": true,
		"jit-42.dump": false, "/tmp/jit-.dump": false, "/tmp/jit-42.dump.so": false, "/tmp/xjit-42.dump": false,
	} {
		if got := IsJITDump(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func FuzzJITDump(f *testing.F) {
	f.Add(jitDump(written{0, 0x1000, 0x2000}, written{0, 0x1800, 0x1900}))
	f.Add(jitDump())
	addrs := []profile.ObjAddr{0, 0x1000, 0x1800, ^profile.ObjAddr(0)}
	f.Fuzz(func(t *testing.T, b []byte) {
		openJITDump(b).Find(addrs, func(i int, s Symbol) {
			if addrs[i] < s.Start || s.Name == "" {
				t.Errorf("%v: %+v", addrs[i], s)
			}
		})
	})
}
