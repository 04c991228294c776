// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Cache is a folder with debug files by build ID. Several programs may use it
// at once: files appear in it whole, and one that is removed stays readable for
// those who have it open.
type Cache struct {
	Dir      string // "" means CacheDir()
	MaxBytes int64  // of all files; 0 means DefaultCache
}

// DefaultCache is the default of MaxBytes.
const DefaultCache = 1 << 30

// CacheDir is the folder for caches that the user has, or the XDG base
// directory specification gives him.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "srprof", "debuginfo"), nil
}

const (
	cacheSuffix = ".debug"
	partSuffix  = ".part" // of a file that is not whole yet
	// partAge is how old such a file is when whoever wrote it is gone for sure.
	partAge = time.Hour
)

func (c Cache) dir() (string, error) {
	if c.Dir != "" {
		return c.Dir, nil
	}
	return CacheDir()
}

func (c Cache) limit() int64 {
	if c.MaxBytes == 0 {
		return DefaultCache
	}
	return c.MaxBytes
}

// open returns the file of a build ID, nil if it is not there.
func (c Cache) open(id profile.BuildID) *object.File {
	dir, err := c.dir()
	if err != nil {
		return nil
	}
	p := filepath.Join(dir, string(id)+cacheSuffix)
	o, err := openCached(p, id)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			os.Remove(p) // whatever that is, it is no use
		}
		return nil
	}
	now := time.Now()
	os.Chtimes(p, now, now) // used: the oldest goes first
	return o
}

func openCached(p string, id profile.BuildID) (*object.File, error) {
	fd, err := unix.Open(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	o, err := object.OpenDebug(os.NewFile(uintptr(fd), p))
	if err != nil {
		return nil, err
	}
	if err := (&search{want: id}).sameID(o); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// add makes a file of what write writes, if it is what it should be, and
// removes others until all of them fit.
func (c Cache) add(id profile.BuildID, write func(*os.File) error) (*object.File, error) {
	dir, err := c.dir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, string(id)+".*"+partSuffix) // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // it has another name by then, if all went well
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	o, err := openCached(f.Name(), id)
	if err != nil {
		return nil, fmt.Errorf("what it sent is of no use: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, string(id)+cacheSuffix)); err != nil {
		o.Close()
		return nil, err
	}
	c.shrink(dir)
	return o, nil
}

// shrink removes what was not used for longest, and what others left unfinished.
func (c Cache) shrink(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone, or not ours
		}
		switch {
		case strings.HasSuffix(e.Name(), cacheSuffix):
			files = append(files, info)
			total += info.Size()
		case strings.HasSuffix(e.Name(), partSuffix) && time.Since(info.ModTime()) > partAge:
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range files {
		if total <= c.limit() {
			return
		}
		if os.Remove(filepath.Join(dir, info.Name())) == nil {
			total -= info.Size()
		}
	}
}
