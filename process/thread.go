// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"strconv"
	"strings"
)

// Threads are the TIDs of a process as it is now. The error is fs.ErrNotExist
// when there is no such process.
func Threads(pid int) ([]int, error) {
	entries, err := os.ReadDir(path(pid, "task"))
	if err != nil {
		return nil, gone(err)
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// ThreadName is the kernel's name of a thread. The error is fs.ErrNotExist when
// it is gone.
func ThreadName(pid, tid int) (string, error) {
	b, err := os.ReadFile(path(pid, "task/"+strconv.Itoa(tid)+"/comm"))
	if err != nil {
		return "", gone(err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}
