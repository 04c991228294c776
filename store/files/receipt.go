// SPDX-License-Identifier: Apache-2.0

package files

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Receipt is a file on its way in. It is used by one goroutine, and ends with
// Commit or Close.
type Receipt struct {
	files   *Files
	name    string
	file    *os.File
	size    int64
	ended   bool
	removed bool // guarded by the lock of files
}

var _ io.WriteCloser = (*Receipt)(nil)

// Receive begins to receive a file, or goes on with it: Size says how much of it
// is there already. A name has 1 to 128 of the characters A-Z, a-z, 0-9, dot,
// underscore and hyphen, and does not begin with a dot. The error is fs.ErrExist
// if the file is there and whole, and session.ErrBusy while somebody else
// receives it.
func (f *Files) Receive(name string) (*Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !names.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a profile: %w", name, session.ErrInvalid)
	}
	if _, ok := f.whole[name]; ok {
		return nil, fmt.Errorf("profile %q: %w", name, fs.ErrExist)
	}
	if f.receipts[name] != nil {
		return nil, fmt.Errorf("profile %q is being received: %w", name, session.ErrBusy)
	}
	file, err := os.OpenFile(f.partialPath(name), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, f.failed("receive", name, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(f.failed("receive", name, err), file.Close())
	}
	f.used += info.Size() - f.partial[name] // it was as long, unless somebody meddled
	f.partial[name] = info.Size()
	r := &Receipt{files: f, name: name, file: file, size: info.Size()}
	f.receipts[name] = r
	return r, nil
}

// Size is how much of the file is there.
func (r *Receipt) Size() int64 { return r.size }

// Write appends to the file. Of what is beyond the limit for all files nothing is
// written (results_full); of what the disk has no room for, a part may be
// (disk_full).
func (r *Receipt) Write(p []byte) (int, error) {
	if err := r.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := r.file.Write(p)
	r.resize(r.size+int64(n), int64(len(p)))
	if err != nil {
		return n, r.files.failed("write", r.name, err)
	}
	return n, nil
}

// usable says whether the receipt goes on. The lock of files is held.
func (r *Receipt) usable() error {
	switch {
	case r.removed:
		return &session.Error{Code: "profile_removed", Kind: fs.ErrNotExist, Problem: fmt.Sprintf("profile %q was removed while it was received", r.name), Remedy: "its session was forgotten: record again"}
	case r.ended:
		return fmt.Errorf("profile %q is not being received any more: %w", r.name, fs.ErrClosed)
	}
	return nil
}

// reserve takes so many bytes of what all files may have.
func (r *Receipt) reserve(n int64) error {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if f.limits.MaxBytes > 0 && f.used+n > f.limits.MaxBytes {
		return &session.Error{Code: "results_full", Kind: session.ErrTooLarge,
			Problem: fmt.Sprintf("the profile does not fit into the %d bytes that are for all of them", f.limits.MaxBytes),
			Remedy:  "raise the limit, keep profiles for a shorter time, or record for a shorter time"}
	}
	f.used += n
	return nil
}

// resize notes how large the file is, for which so many bytes were reserved.
func (r *Receipt) resize(size, reserved int64) {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= reserved
	if !r.removed {
		f.used += size - r.size
		f.partial[r.name] = size
	}
	r.size = size
}

// Restart throws away what is there, to begin anew.
func (r *Receipt) Restart() error {
	if err := r.reserve(0); err != nil {
		return err
	}
	if err := r.file.Truncate(0); err != nil {
		return r.files.failed("restart", r.name, err)
	}
	r.resize(0, 0)
	return nil
}

// Commit ends the receipt: if what is there has the given digest (SHA-256 in
// lower-case hexadecimal), it is whole from now on, also after a crash. If not,
// it is thrown away, and the error is ErrDigest. After another error it is still
// there, to be received again, or whole ([Files.Info]).
func (r *Receipt) Commit(digest string) error {
	if err := r.reserve(0); err != nil {
		return err
	}
	got, err := r.sum()
	if err == nil && got != digest {
		err = errors.Join(fmt.Errorf("profile %q has digest %s, not %s: %w", r.name, got, digest, ErrDigest), r.Restart())
		return errors.Join(err, r.Close())
	}
	if err == nil {
		err = r.file.Sync()
	}
	if err == nil {
		err = r.publish(digest)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return r.files.failed("keep", r.name, err)
	}
	return nil
}

// sum is the digest of what is in the file, not of what was written to it: part
// of it may be from before a crash.
func (r *Receipt) sum() (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r.file, 0, r.size))
	if err != nil {
		return "", err
	}
	if n != r.size {
		return "", io.ErrUnexpectedEOF
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// publish makes the file a whole one.
func (r *Receipt) publish(digest string) error {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if err := os.Rename(f.partialPath(r.name), f.wholePath(r.name, digest)); err != nil {
		return err
	}
	f.whole[r.name] = Info{r.size, digest}
	delete(f.partial, r.name)
	return errors.Join(syncDir(filepath.Join(f.dir, wholeDir)), syncDir(filepath.Join(f.dir, partialDir)))
}

// Close ends the receipt, if Commit has not, and keeps what is there: who
// receives the file again goes on with it.
func (r *Receipt) Close() error {
	f := r.files
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.ended {
		return nil
	}
	r.ended = true
	if f.receipts[r.name] == r {
		delete(f.receipts, r.name)
	}
	return r.file.Close()
}
