// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// upContext is the context that srprof up makes.
const upContext = "srprof-up"

// keeper removes what srprof up has made when that has ended, however it ended:
// the kernel closes a pipe then. It is a process of its own in a session of its
// own, so that what ends the one does not end the other.
type keeper struct {
	cmd   *exec.Cmd
	alive *os.File // the pipe; nobody writes into it
}

func (u *up) startKeeper() (*keeper, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	until, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer until.Close()
	args := []string{"up", cleanupName, "--dir", u.dir}
	if !u.temporary {
		args = append(args, "--keep")
	}
	c := exec.Command(own, args...)
	c.Stdin = until
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if u.user >= 0 {
		c.Env = append(os.Environ(), configVariable+"="+u.userConfig())
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

const cleanupName = "cleanup"

// upCleanupCommand is what the keeper runs.
func upCleanupCommand() *cobra.Command {
	var u up
	var keep bool
	c := &cobra.Command{
		Use:    cleanupName,
		Short:  "Remove what srprof up has made, when standard input ends",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
				return err
			}
			u.temporary = !keep
			return errors.Join(u.forgetContext(), u.removeAll())
		},
	}
	c.Flags().StringVar(&u.dir, "dir", "", "the directory")
	c.Flags().BoolVar(&keep, "keep", false, "leave the directory")
	return c
}

// removeAll removes the directory, though services may still write into it that
// the kernel is about to end.
func (u *up) removeAll() (err error) {
	for range 50 {
		if err = u.remove(); err == nil {
			return nil
		}
		time.Sleep(lookEvery)
	}
	return err
}

// userConfig is where the context is for who called sudo: root's own file is not
// his.
func (u *up) userConfig() string { return filepath.Join(u.dir, "srprof.json") }

// writeContext makes the context, the current one from now on.
func (u *up) writeContext(p place) error {
	if u.user >= 0 {
		f := &contextFile{Current: upContext, Contexts: map[string]place{upContext: p}, path: u.userConfig()}
		return errors.Join(f.write(), os.Chmod(f.path, 0o644))
	}
	return changeContexts(func(f *contextFile) error {
		if f.Contexts == nil {
			f.Contexts = map[string]place{}
		}
		if f.Current != upContext {
			if err := os.WriteFile(u.formerFile(), []byte(f.Current), 0o600); err != nil {
				return err
			}
		}
		f.Contexts[upContext], f.Current = p, upContext
		return nil
	})
}

// formerFile has the name of the context that was the current one before.
func (u *up) formerFile() string { return filepath.Join(u.dir, "former-context") }

// forgetContext makes the context the current one that was it before, unless
// another srprof up has made another one of it meanwhile.
func (u *up) forgetContext() error {
	f, err := readContexts(true)
	if err != nil {
		return err
	}
	is, ok := f.Contexts[upContext]
	if !ok || is.CertDir != u.certs() {
		return nil
	}
	delete(f.Contexts, upContext)
	if f.Current == upContext {
		former, _ := os.ReadFile(u.formerFile()) // there is none where none was the current one
		f.Current = ""
		if _, ok := f.Contexts[string(former)]; ok {
			f.Current = string(former)
		}
	}
	if len(f.Contexts) == 0 && f.Current == "" {
		return os.Remove(f.path)
	}
	return f.write()
}
