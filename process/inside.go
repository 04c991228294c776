// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Inside is a process as it sees itself, in namespaces of its own.
type Inside struct {
	PID int
	// Users are those whose files it makes, as we number them: the real,
	// effective, saved and file system one.
	Users []uint32
	// Root is the superuser of its user namespace, as we number it: whoever
	// started it may have been that.
	Root uint32
}

// ReadInside reads it. The error is fs.ErrNotExist when there is no such
// process.
func ReadInside(pid int) (Inside, error) {
	status, err := os.ReadFile(path(pid, "status"))
	if err != nil {
		return Inside{}, gone(err)
	}
	in := Inside{PID: pid} // before Linux 4.1 there is no NSpid
	for line := range strings.Lines(string(status)) {
		name, values, _ := strings.Cut(line, ":")
		switch name {
		case "Uid":
			if in.Users, err = parseUsers(values); err != nil {
				return Inside{}, err
			}
		case "NSpid": // in all namespaces from ours to its own
			f := strings.Fields(values)
			if len(f) == 0 {
				continue
			}
			if in.PID, err = strconv.Atoi(f[len(f)-1]); err != nil {
				return Inside{}, fmt.Errorf("parse process status: %w", err)
			}
		}
	}
	if users, err := os.ReadFile(path(pid, "uid_map")); err == nil { // without user namespaces there is none
		in.Root = rootUser(string(users))
	}
	return in, nil
}

// rootUser finds user 0 in a uid_map: lines of the first user inside, the first
// one outside, and how many there are (user_namespaces(7)).
func rootUser(users string) uint32 {
	for line := range strings.Lines(users) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "0" {
			if u, err := strconv.ParseUint(f[1], 10, 32); err == nil {
				return uint32(u)
			}
		}
	}
	return 0
}
