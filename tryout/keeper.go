// SPDX-License-Identifier: Apache-2.0

package tryout

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/carverauto/serviceradar-profiler/contexts"
)

// contextName is the context that srprof up makes.
const contextName = "srprof-up"

// keeper removes what srprof up has made when that has ended, however it ended:
// the kernel closes a pipe then. It is a process of its own in a session of its
// own, so that what ends the one does not end the other.
type keeper struct {
	cmd   *exec.Cmd
	alive *os.File // the pipe; nobody writes into it
}

func (s *System) startKeeper() (*keeper, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	until, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer until.Close()
	args := []string{"up", CleanupCommand, "--dir", s.Dir}
	if !s.temporary {
		args = append(args, "--keep")
	}
	c := exec.Command(own, args...)
	c.Stdin = until
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.user >= 0 {
		c.Env = append(os.Environ(), contexts.ConfigVariable+"="+s.userConfig())
	}
	if err := c.Start(); err != nil {
		alive.Close()
		return nil, fmt.Errorf("start who cleans up: %w", err)
	}
	return &keeper{c, alive}, nil
}

// end lets it clean up, and waits for that.
func (k *keeper) end() error {
	return errors.Join(k.alive.Close(), k.cmd.Wait())
}

// CleanupCommand is the command below srprof up that calls Cleanup.
const CleanupCommand = "cleanup"

// Cleanup removes the context of a system, and its directory unless that is to
// be kept, when from ends.
func Cleanup(from io.Reader, dir string, keep bool) error {
	if _, err := io.Copy(io.Discard, from); err != nil {
		return err
	}
	s := &System{Dir: dir, temporary: !keep}
	return errors.Join(s.forgetContext(), s.removeAll())
}

// removeAll removes the directory, though services may still write into it that
// the kernel is about to end.
func (s *System) removeAll() (err error) {
	for range 50 {
		if err = s.remove(); err == nil {
			return nil
		}
		time.Sleep(lookEvery)
	}
	return err
}

// userConfig is where the context is for who called sudo: root's own file is not
// his.
func (s *System) userConfig() string { return filepath.Join(s.Dir, "srprof.json") }

// writeContext makes the context, the current one from now on.
func (s *System) writeContext(p contexts.Place) error {
	if s.user >= 0 {
		f := contexts.New(s.userConfig())
		f.Current, f.Contexts = contextName, map[string]contexts.Place{contextName: p}
		return errors.Join(f.Write(), os.Chmod(f.At(), 0o644))
	}
	return contexts.Change(func(f *contexts.File) error {
		if f.Contexts == nil {
			f.Contexts = map[string]contexts.Place{}
		}
		if f.Current != contextName {
			if err := os.WriteFile(s.formerFile(), []byte(f.Current), 0o600); err != nil {
				return err
			}
		}
		f.Contexts[contextName], f.Current = p, contextName
		return nil
	})
}

// formerFile has the name of the context that was the current one before.
func (s *System) formerFile() string { return filepath.Join(s.Dir, "former-context") }

// forgetContext makes the context the current one that was it before, unless
// another srprof up has made another one of it meanwhile.
func (s *System) forgetContext() error {
	f, err := contexts.Open()
	if err != nil {
		return err
	}
	is, ok := f.Contexts[contextName]
	if !ok || is.CertDir != s.certs() {
		return nil
	}
	delete(f.Contexts, contextName)
	if f.Current == contextName {
		former, _ := os.ReadFile(s.formerFile()) // there is none where none was the current one
		f.Current = ""
		if _, ok := f.Contexts[string(former)]; ok {
			f.Current = string(former)
		}
	}
	if len(f.Contexts) == 0 && f.Current == "" {
		return os.Remove(f.At())
	}
	return f.Write()
}
