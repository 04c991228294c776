// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// counts say what did not reach anybody. They are on the disk before the items
// that they count are removed, with these items' IDs: if a crash comes between,
// the next Open removes them, and each is counted once.
type counts struct {
	Dropped map[Kind]uint64 `json:"dropped"`
	Damaged uint64          `json:"damaged"`
	Going   []uint64        `json:"going,omitempty"`
}

// countsFile is their name in the directory.
const countsFile = "counts.json"

// readCounts reads them. Where they cannot be read they begin anew, with one
// damaged: that there was more is not known any more.
func readCounts(dir string) (counts, error) {
	b, err := os.ReadFile(filepath.Join(dir, countsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return counts{}, nil
	}
	if err != nil {
		return counts{}, err
	}
	return parseCounts(b), nil
}

func parseCounts(b []byte) counts {
	var c counts
	if err := json.Unmarshal(b, &c); err != nil {
		return counts{Damaged: 1}
	}
	return c
}

func (c counts) clone() counts {
	c.Dropped = maps.Clone(c.Dropped)
	if c.Dropped == nil {
		c.Dropped = map[Kind]uint64{}
	}
	c.Going = slices.Clone(c.Going)
	return c
}

// write makes them those on the disk.
func (c counts) write(dir string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(dir, countsFile, b)
}

// unfinished is the name under which files are written.
const unfinished = "unfinished"

// writeFile makes a file that is there whole or not at all, also after a crash.
func writeFile(dir, name string, b []byte) (err error) {
	path := filepath.Join(dir, unfinished)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path, filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
