// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// xz compresses with the real program.
func xz(t testing.TB, content []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := exec.Command("xz", append([]string{"--stdout"}, args...)...)
	c.Stdin = bytes.NewReader(content)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// noise is content that hardly compresses.
func noise(n int) []byte {
	b := make([]byte, 0, n+32)
	for sum := sha256.Sum256(nil); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func TestXZ(t *testing.T) {
	for _, c := range []struct {
		name    string
		content []byte
		args    []string
	}{
		{"empty", nil, nil},
		{"byte", []byte("x"), nil},
		{"text", bytes.Repeat([]byte("mini debug information "), 10_000), nil},
		{"noise", noise(300_000), nil},
		{"best", noise(100_000), []string{"-9e"}},
		{"fast", noise(100_000), []string{"-0"}},
		{"blocks", noise(300_000), []string{"--block-size=65536"}},
		{"threads", noise(300_000), []string{"-T2", "--block-size=65536"}}, // sizes in the block headers
		{"crc32", noise(1000), []string{"--check=crc32"}},
		{"sha256", noise(1000), []string{"--check=sha256"}},
		{"unchecked", noise(1000), []string{"--check=none"}},
	} {
		b := xz(t, c.content, c.args...)
		got, err := unxz(bytes.NewReader(b), int64(len(b)), int64(len(c.content)))
		if err != nil || !bytes.Equal(got, c.content) {
			t.Errorf("%s: %d bytes, %v, want %d", c.name, len(got), err, len(c.content))
		}
		if len(c.content) > 0 {
			if _, err := unxz(bytes.NewReader(b), int64(len(b)), int64(len(c.content))-1); err == nil {
				t.Errorf("%s: more than the limit", c.name)
			}
		}
		// No byte may be wrong, and none missing; what pads is zero.
		for i := 0; i < len(b); i += 1 + len(b)/80 {
			bad := bytes.Clone(b)
			bad[i] ^= 0x55
			if got, err := unxz(bytes.NewReader(bad), int64(len(bad)), 1<<20); err == nil && !bytes.Equal(got, c.content) && c.name != "sha256" && c.name != "unchecked" {
				t.Errorf("%s: byte %d is wrong, and nothing is said", c.name, i)
			}
			if _, err := unxz(bytes.NewReader(b[:i]), int64(i), 1<<20); err == nil {
				t.Errorf("%s: cut at byte %d, and nothing is said", c.name, i)
			}
		}
	}
	b := xz(t, noise(1000), "--x86", "--lzma2")
	if _, err := unxz(bytes.NewReader(b), int64(len(b)), 1<<20); !errors.Is(err, errXZ) {
		t.Errorf("two filters: %v", err)
	}
}

// A file may say that it needs a dictionary of 4 GiB.
func TestXZDictionary(t *testing.T) {
	b := xz(t, []byte("small"), "--check=none")
	header := b[12 : 12+(int(b[12])+1)*4]
	at := bytes.Index(header, []byte{lzma2, 1})
	if at < 0 {
		t.Fatalf("% x", header)
	}
	header[at+2] = 40
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := unxz(bytes.NewReader(b), int64(len(b)), MaxMiniDebug)
	runtime.ReadMemStats(&after)
	if err != nil || string(got) != "small" {
		t.Errorf("%q, %v", got, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for 5", n)
	}
}

func TestMiniDebug(t *testing.T) {
	dir := built(t, "objcopy --strip-debug a mini", "xz -k mini", "strip -o stripped a", "objcopy --add-section .gnu_debugdata=mini.xz stripped")
	mini, err := opened(t, filepath.Join(dir, "stripped")).MiniDebug()
	if err != nil || mini == nil {
		t.Fatalf("%v, %v", mini, err)
	}
	want := opened(t, filepath.Join(dir, "mini"))
	if mini.BuildID() != want.BuildID() {
		t.Errorf("build ID %s, want %s", mini.BuildID(), want.BuildID())
	}
	a, err1 := io.ReadAll(mini.Section(".symtab").Reader())
	b, err2 := io.ReadAll(want.Section(".symtab").Reader())
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf(".symtab differs: %v, %v", err1, err2)
	}
	if mini, err := want.MiniDebug(); mini != nil || err != nil {
		t.Errorf("without: %v, %v", mini, err)
	}
}

func FuzzXZ(f *testing.F) {
	f.Add(xz(f, []byte(strings.Repeat("fuzz", 100))))
	f.Add(xz(f, noise(5000), "--block-size=1024"))
	f.Add(xz(f, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		fixed := bytes.Clone(b) // checksums of the container would stop nearly everything
		if n := len(fixed); n >= 2*xzHeader {
			binary.LittleEndian.PutUint32(fixed[8:], crc32.ChecksumIEEE(fixed[6:8]))
			binary.LittleEndian.PutUint32(fixed[n-12:], crc32.ChecksumIEEE(fixed[n-8:n-2]))
			if index := (int64(binary.LittleEndian.Uint32(fixed[n-8:])) + 1) * 4; index > 4 && index <= int64(n-2*xzHeader) {
				at := n - xzHeader - int(index)
				binary.LittleEndian.PutUint32(fixed[n-xzHeader-4:], crc32.ChecksumIEEE(fixed[at:n-xzHeader-4]))
			}
			if size := (int(fixed[12]) + 1) * 4; 12+size <= n-12 {
				binary.LittleEndian.PutUint32(fixed[12+size-4:], crc32.ChecksumIEEE(fixed[12:12+size-4]))
			}
		}
		for _, b := range [][]byte{b, fixed} {
			got, err := unxz(bytes.NewReader(b), int64(len(b)), 1<<20)
			if err == nil && len(got) > 1<<20 {
				t.Errorf("%d bytes", len(got))
			}
		}
	})
}
