// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

// reported is what core was told already, in a file: of each scheduled profile
// the last one, and how much was dropped. It is written after the queue, so that
// after a crash in between core is told twice, and never not at all.
type reported struct {
	file string // empty: it is not kept

	mu      sync.Mutex
	content reportedContent
	changed bool
}

type reportedContent struct {
	Slots   map[string]int64 `json:"slots"` // by check: seconds of Unix
	Dropped Dropped          `json:"dropped"`
}

func openReported(dir string) (*reported, error) {
	r := &reported{content: reportedContent{Slots: map[string]int64{}}}
	if dir == "" {
		return r, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r.file = filepath.Join(dir, "reported.json")
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r.content)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was reported (remove %s, and core gets some profiles again): %w", r.file, err)
	}
	if r.content.Slots == nil {
		r.content.Slots = map[string]int64{}
	}
	return r, nil
}

// last is the last slot of a check of which core was told; 0: there is none.
func (r *reported) last(check string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.content.Slots[check]
}

func (r *reported) set(check string, slot int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content.Slots[check] = max(slot, r.content.Slots[check])
	r.changed = true
}

// setBack is for clocks that were ahead.
func (r *reported) setBack(check string, slot int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content.Slots[check], r.changed = slot, true
}

// keep forgets the checks that are none any more.
func (r *reported) keep(checks map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.content.Slots, func(check string, _ int64) bool { return !checks[check] })
}

// wasTold says whether core knows of all that was dropped.
func (r *reported) wasTold(d Dropped) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.content.Dropped
	return d.Summaries <= t.Summaries && d.Results <= t.Results && d.Refused <= t.Refused && d.Damaged <= t.Damaged
}

// refused is what core was told of that; it is counted on from there.
func (r *reported) refused() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.content.Dropped.Refused
}

func (r *reported) told(d Dropped) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content.Dropped, r.changed = d, true
}

// save writes the file, whole or not at all.
func (r *reported) save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == "" || !r.changed {
		return nil
	}
	b, err := json.Marshal(r.content)
	if err != nil {
		return err
	}
	if err := replace(r.file, b); err != nil {
		return err
	}
	r.changed = false
	return nil
}

// replace writes a file that is there after a crash as it was before, or as it
// is to be.
func replace(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // if it has not got its name
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
