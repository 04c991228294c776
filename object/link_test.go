// SPDX-License-Identifier: Apache-2.0

package object

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// built compiles a program in a new directory and runs commands there.
func built(t *testing.T, commands ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte("static int f(int x){volatile int y=x;return y;}int main(void){return f(0);}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range append([]string{"gcc -g -O1 -o a a.c"}, commands...) {
		args := strings.Fields(line)
		if _, err := exec.LookPath(args[0]); err != nil {
			if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		c := exec.Command(args[0], args[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	return dir
}

func opened(t *testing.T, path string) *File {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenDebug(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDebugLink(t *testing.T) {
	dir := built(t, "objcopy --only-keep-debug a a.debug", "strip -o stripped a", "objcopy --add-gnu-debuglink=a.debug stripped")
	l, err := opened(t, filepath.Join(dir, "stripped")).DebugLink()
	if err != nil || l.Name != "a.debug" {
		t.Fatalf("%+v, %v", l, err)
	}
	if sum, err := opened(t, filepath.Join(dir, "a.debug")).CRC(); err != nil || sum != l.CRC {
		t.Errorf("checksum %08x, %v; the link has %08x", sum, err, l.CRC)
	}
	if l, err := opened(t, filepath.Join(dir, "a")).DebugLink(); err != nil || l != (DebugLink{}) {
		t.Errorf("without a link: %+v, %v", l, err)
	}
}

func TestAltLink(t *testing.T) {
	dir := built(t, "gcc -g -O1 -DSECOND -o b a.c", "objcopy --only-keep-debug a a.debug", "objcopy --only-keep-debug b b.debug",
		"dwz -m common.debug a.debug b.debug")
	l, err := opened(t, filepath.Join(dir, "a.debug")).AltLink()
	if err != nil || l.Path != "common.debug" {
		t.Fatalf("%+v, %v", l, err)
	}
	if id := opened(t, filepath.Join(dir, "common.debug")).BuildID(); id != l.BuildID {
		t.Errorf("the alternate file has build ID %s, the link %s", id, l.BuildID)
	}
	if l, err := opened(t, filepath.Join(dir, "a")).AltLink(); err != nil || l != (AltLink{}) {
		t.Errorf("without a link: %+v, %v", l, err)
	}
}

func TestParseLinks(t *testing.T) {
	for _, c := range []struct {
		section string
		want    DebugLink
	}{
		{"abc\x00\x04\x03\x02\x01", DebugLink{"abc", 0x01020304}},
		{"abcd\x00\x00\x00\x00\x04\x03\x02\x01", DebugLink{"abcd", 0x01020304}},
		{"abcd\x00junk\x04\x03\x02\x01", DebugLink{"abcd", 0x0203046b}}, // padding is as long as it has to be, whatever it is
		{"", DebugLink{}}, {"abc", DebugLink{}}, {"abc\x00\x04\x03\x02", DebugLink{}}, {"abcd\x00\x04\x03\x02\x01", DebugLink{}},
		{"\x00\x00\x00\x00\x04\x03\x02\x01", DebugLink{}}, {"..\x00\x00\x04\x03\x02\x01", DebugLink{}},
		{"../a\x00\x00\x00\x00\x04\x03\x02\x01", DebugLink{}}, {"/ab\x00\x04\x03\x02\x01", DebugLink{}},
	} {
		l, err := parseDebugLink([]byte(c.section))
		if l != c.want || (err != nil) != (c.want == DebugLink{}) || (err != nil && !errors.Is(err, ErrFormat)) {
			t.Errorf("%q: %+v, %v, want %+v", c.section, l, err, c.want)
		}
	}
	for _, c := range []struct {
		section string
		want    AltLink
	}{
		{"../x.debug\x00\xab\xcd", AltLink{"../x.debug", "abcd"}},
		{"", AltLink{}}, {"abc", AltLink{}}, {"abc\x00", AltLink{}}, {"\x00\xab", AltLink{}},
		{"a\x00" + strings.Repeat("x", maxGNUID+1), AltLink{}},
	} {
		l, err := parseAltLink([]byte(c.section))
		if l != c.want || (err != nil) != (c.want == AltLink{}) || (err != nil && !errors.Is(err, ErrFormat)) {
			t.Errorf("%q: %+v, %v, want %+v", c.section, l, err, c.want)
		}
	}
}

func FuzzParseLinks(f *testing.F) {
	f.Add([]byte("abc\x00\x04\x03\x02\x01"))
	f.Add([]byte("../x.debug\x00\xab\xcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseDebugLink(b); err == nil && filepath.Join("/dir", l.Name) != "/dir/"+l.Name {
			t.Errorf("%q leaves the folder", l.Name)
		}
		if l, err := parseAltLink(b); err == nil && (l.Path == "" || l.BuildID == "") {
			t.Errorf("%+v", l)
		}
	})
}
