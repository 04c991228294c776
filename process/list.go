// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// All are the PIDs of the processes that /proc shows, in order.
func All() ([]int, error) {
	proc, err := os.Open(Root)
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// StartTime is when a process started, by the clock as it is now.
func (id ID) StartTime() (time.Time, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("ask when this host was started: %w", err)
	}
	return time.Now().Add(time.Duration(id.Start)*clockTick - time.Duration(up.Nano())).Round(clockTick), nil
}

// ReadUsers are the users whose rights a process has: the real, effective,
// saved and file system one, each once. The error is fs.ErrNotExist when there
// is no such process.
func ReadUsers(pid int) ([]uint32, error) {
	var users []uint32
	err := read(pid, "status", func(b []byte) (err error) {
		for line := range bytes.Lines(b) {
			if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
				users, err = parseUsers(string(ids))
				return err
			}
		}
		return errors.New("parse process status: no Uid")
	})
	return users, err
}

func parseUsers(ids string) ([]uint32, error) {
	var users []uint32
	for _, f := range strings.Fields(ids) {
		u, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parse process status: %w", err)
		}
		if !slices.Contains(users, uint32(u)) {
			users = append(users, uint32(u))
		}
	}
	return users, nil
}

// UserName is the name of a user, or his number if he has none here.
func UserName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(number); err == nil {
		return known.Username
	}
	return number
}
