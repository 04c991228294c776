// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// runbook runs each command of docs/runbook.md as it stands there, but for the
// process.
func (h *host) runbook() error {
	b, err := os.ReadFile("/srprof-vm/runbook.md")
	if err != nil {
		return err
	}
	var wrong []error
	run := 0
	for i, part := range strings.Split(string(b), "```") {
		block, isShell := strings.CutPrefix(part, "sh\n")
		if i%2 == 0 || !isShell {
			continue
		}
		for line := range strings.Lines(block) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "sudo ") // we are root
			line = strings.ReplaceAll(line, "4242", strconv.Itoa(h.pid))
			if _, err := shell("cd /root; " + line); err != nil {
				wrong = append(wrong, err)
			}
			run++
		}
	}
	if run < 15 {
		wrong = append(wrong, fmt.Errorf("ran %d commands, want at least 15", run))
	}
	_, err = shell("systemctl enable --now " + unit) // the last one took it away
	return errors.Join(append(wrong, err)...)
}
