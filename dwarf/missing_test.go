// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where other files are missing, what the file itself knows is given, and the
// error says what was missing.
func TestMissing(t *testing.T) {
	for _, x := range []struct {
		name, command, remove string
		inlined               bool // is known even so
	}{
		{"split unit", "g++ -O2 -g -gsplit-dwarf calls.cpp -o program", "*.dwo", false},
		{"split unit, inlined calls in the skeleton", "clang++-14 -O2 -g -gsplit-dwarf -fsplit-dwarf-inlining -c calls.cpp && clang++-14 calls.o -o program", "*.dwo", true},
		{"common parts", "g++ -O2 -gdwarf-4 calls.cpp -o program && g++ -O3 -gdwarf-4 calls.cpp -o other && dwz -m common.debug program other", "common.debug", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			file := build(t, x.command)
			gone, err := filepath.Glob(filepath.Join(filepath.Dir(file), x.remove))
			if err != nil || len(gone) != 1 {
				t.Fatal(err, gone)
			}
			if err := os.Remove(gone[0]); err != nil {
				t.Fatal(err)
			}
			o := openObject(t, file)
			addrs := sample(o, 1000)
			for _, options := range []Options{optionsOf(file), {}} {
				d, err := Open(o, options)
				if err != nil {
					t.Fatal(err)
				}
				lines, inlined := 0, 0
				for range 2 { // the second search says so again
					err = d.Find(addrs, func(_ int, calls []Call) {
						if calls[0].Line > 0 && strings.HasPrefix(calls[0].File, "/") {
							lines++
						}
						if len(calls) > 1 {
							inlined++
						}
					})
					if err == nil || !strings.Contains(err.Error(), filepath.Base(gone[0])) {
						t.Errorf("%v, want something of %s", err, gone[0])
					}
					if options.Split != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%v, want %v", err, fs.ErrNotExist)
					}
				}
				if lines < 1000 || inlined > 0 != x.inlined {
					t.Errorf("%d lines, %d inlined calls of %d addresses", lines, inlined, 2*len(addrs))
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNone(t *testing.T) {
	o := openObject(t, build(t, "gcc -O2 calls.c -o program"))
	if d, err := Open(o, Options{}); !errors.Is(err, ErrNone) {
		t.Errorf("%v, %v", d, err)
	}
}
