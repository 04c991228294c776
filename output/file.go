// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// file is one that is written whole or not at all: into a temporary file
// beside it, which then takes its name. Creating that file at once shows
// before a long recording, not after it, whether the place can be written.
type file struct {
	path      string
	temporary *os.File  // the temporary file; nil for a stream
	to        io.Writer // the stream
	pprof     bool      // the form in which profiles are sent
	encode    func(io.Writer, *profile.Profile) error
}

// format says how a profile is written to it.
func (o *file) format(f encoding.Format, options encoding.Options) {
	o.pprof = f.Name == session.FormatPprof
	if screen := terminal.ScreenOf(o.to); screen != nil {
		options.Columns, _ = screen.Size()
		options.Color = screen.Color()
	}
	o.encode = func(w io.Writer, p *profile.Profile) error { return f.Write(w, p, options) }
}

// Files are written one after the other. What cannot be written does not keep the
// others from it; the first error is returned.
type Files []*file

// Write writes the profile to all of them.
func (all Files) Write(p *profile.Profile) error {
	return all.each(func(o *file) error {
		return o.write(func(w io.Writer) error { return o.encode(w, p) })
	})
}

func (all Files) each(do func(*file) error) (first error) {
	for _, o := range all {
		if err := do(o); first == nil {
			first = err
		}
	}
	return first
}

// split parts those that take a profile as it was sent from those for which it
// is read first.
func (all Files) split() (sent, rest Files) {
	for _, o := range all {
		if o.pprof {
			sent = append(sent, o)
		} else {
			rest = append(rest, o)
		}
	}
	return sent, rest
}

// writeBytes writes a profile as it was sent.
func (all Files) writeBytes(from func() io.Reader) error {
	return all.each(func(o *file) error {
		return o.write(func(w io.Writer) error {
			_, err := io.Copy(w, from())
			return err
		})
	})
}

// Abandon removes what was not written to the end.
func (all Files) Abandon() {
	for _, o := range all {
		o.abandon()
	}
}

// createFile prepares to write to path.
func createFile(path string, stdout io.Writer) (*file, error) {
	if path == Stdout {
		return &file{to: stdout}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, session.Invalid("output_is_directory", fmt.Sprintf("cannot write the profile to %s: it is a directory", path), "name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return openStream(path) // a pipe or device has no temporary twin
	}
	// Write to what a symbolic link points to, not over the link.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := beside(path)
	if err != nil {
		return nil, unwritable(path, err)
	}
	return &file{path: path, temporary: f}, nil
}

// beside makes a file where path is: one without a name, of which nothing remains
// however this program ends, or one with a name where the file system knows no
// others.
func beside(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), ""), nil
	}
	return os.CreateTemp(dir, pattern(path))
}

// pattern is the name of what is to be path.
func pattern(path string) string { return "." + filepath.Base(path) + ".*.tmp" }

// named gives the file a name, if it has none, for a moment: only a name can take
// the place of another (open(2), O_TMPFILE).
func (o *file) named() (string, error) {
	if name := o.temporary.Name(); name != "" {
		return name, nil
	}
	name := strings.Replace(pattern(o.path), "*", rand.Text(), 1)
	name = filepath.Join(filepath.Dir(o.path), name)
	from := fmt.Sprintf("/proc/self/fd/%d", o.temporary.Fd())
	return name, unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

func openStream(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, unwritable(path, err)
	}
	return &file{path: path, to: f}, nil
}

func unwritable(path string, err error) error {
	var kind error = errors.ErrUnsupported
	switch {
	case errors.Is(err, fs.ErrPermission):
		kind = fs.ErrPermission
	case errors.Is(err, fs.ErrNotExist):
		kind = fs.ErrNotExist
	}
	return &session.Error{Code: "output_not_writable", Kind: kind, Cause: session.Cause(err),
		Problem: "cannot write the profile to " + path, Remedy: "choose a directory that exists and that you may write to"}
}

// write writes everything and gives the file its name.
func (o *file) write(fill func(io.Writer) error) error {
	if o.temporary != nil {
		return o.writeFile(fill)
	}
	b := bufio.NewWriter(o.to)
	err := errors.Join(fill(b), b.Flush())
	var foreseen *session.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &foreseen), errors.Is(err, ErrNoReader):
		return err
	}
	return notWritten("cannot write the profile to "+o.path, err)
}

func (o *file) writeFile(fill func(io.Writer) error) error {
	b := bufio.NewWriterSize(o.temporary, 64<<10)
	err := errors.Join(fill(b), b.Flush(), o.temporary.Chmod(o.mode()))
	if err == nil {
		err = o.putInPlace()
	}
	if err != nil {
		return notWritten("cannot write the profile to "+o.path, err)
	}
	return nil
}

// putInPlace lets it take the place of what has its name so far.
func (o *file) putInPlace() error {
	name, err := o.named()
	if err != nil {
		return err
	}
	if err := errors.Join(o.temporary.Close(), os.Rename(name, o.path)); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	o.temporary = nil
	return nil
}

// mode is the mode of the file that is replaced, else the usual one.
func (o *file) mode() fs.FileMode {
	if info, err := os.Stat(o.path); err == nil {
		return info.Mode().Perm()
	}
	return 0o644 &^ umask()
}

func (o *file) abandon() {
	if o.temporary != nil {
		o.temporary.Close()
		if name := o.temporary.Name(); name != "" {
			os.Remove(name)
		}
		o.temporary = nil
	}
}

// writeMetadata writes only how the profile was made.
func writeMetadata(w io.Writer, p *profile.Profile) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(&p.Meta)
}

// umask reads the process's file mode mask, which takes setting it.
func umask() os.FileMode {
	m := syscall.Umask(0)
	syscall.Umask(m)
	return os.FileMode(m)
}
