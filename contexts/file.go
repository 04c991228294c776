// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/spelling"
)

// File is what srprof keeps between two calls: where services are and
// what to show them, under names, as kubectl does.
type File struct {
	Current  string           `json:"current_context"`
	Contexts map[string]Place `json:"contexts"`

	path string
}

// At is where it is.
func (f *File) At() string { return f.path }

// configPath is where contexts are kept (XDG Base Directory Specification), and
// whether somebody named that file.
func configPath() (path string, named bool, err error) {
	if path := os.Getenv(ConfigVariable); path != "" {
		return path, true, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", false, session.Invalid("no_config_dir", "it is not known where contexts are kept: "+err.Error(), "name the file: $"+ConfigVariable)
	}
	return filepath.Join(dir, "srprof", "config.json"), false, nil
}

// Read reads the file. Without one there are no contexts.
func Read() (*File, error) { return read(false) }

// Open reads the file to change it.
func Open() (*File, error) { return read(true) }

// New is a file in a place of its own.
func New(path string) *File { return &File{path: path} }

// read reads the file. There need not be one, unless it was named and
// is not about to be written.
func read(toWrite bool) (*File, error) {
	path, named, err := configPath()
	if err != nil {
		return nil, err
	}
	f := &File{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (toWrite || !named) {
		return f, nil
	}
	if err := checkWriters(path); err != nil {
		return nil, err
	}
	if err := config.Read(path, f); err != nil {
		return nil, configError(err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for name, p := range f.Contexts {
		for _, file := range p.Files() {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
		f.Contexts[name] = p
	}
	return f, nil
}

// checkWriters refuses a file that strangers can change: it says whom to trust.
func checkWriters(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // who reads it says so
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm()&0o002 == 0 && (stat == nil || stat.Uid == 0 || int(stat.Uid) == os.Geteuid()) {
		return nil
	}
	return session.NotPermitted("config_not_private", path+" can be changed by others, who could name a server of theirs", "chown it to yourself, and chmod go-w it", nil)
}

// Find returns the context of that name, or the current one; nil if none is.
func (f *File) Find(name string) (*Place, error) {
	if name == "" {
		name = f.Current
	}
	if name == "" {
		return nil, nil
	}
	p, ok := f.Contexts[name]
	if !ok {
		remedy := f.Known()
		if near := spelling.Nearest(name, f.Names()); near != "" {
			remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
		}
		return nil, session.Invalid("no_such_context", fmt.Sprintf("there is no context %q in %s", name, f.path), remedy)
	}
	return &p, nil
}

// Names are those of all contexts.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.Contexts)) }

// Known says what there is, or how to make one.
func (f *File) Known() string {
	if len(f.Contexts) == 0 {
		return "make one: srprof context set NAME --server HOST --cert-dir DIR"
	}
	return "there are " + strings.Join(f.Names(), ", ")
}

// Write writes the file, whole or not at all, for its owner alone.
func (f *File) Write() error {
	fail := func(err error) error {
		e := &session.Error{Code: "config_not_writable", Kind: fs.ErrInvalid, Problem: "cannot write " + f.path, Cause: session.Cause(err), Remedy: "name another file: $" + ConfigVariable}
		if errors.Is(err, fs.ErrPermission) {
			e.Kind = fs.ErrPermission
		}
		return e
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fail(err)
	}
	path := f.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	file, err := os.CreateTemp(dir, ".config.*.tmp") // with mode 0600
	if err != nil {
		return fail(err)
	}
	defer os.Remove(file.Name())
	_, err = file.Write(append(b, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}

// Change reads the file, changes it and writes it.
func Change(change func(*File) error) error {
	f, err := Open()
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	return f.Write()
}
