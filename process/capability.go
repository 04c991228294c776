// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Capability is one of the kernel's privileges (capabilities(7)), by number.
type Capability uint

const (
	CapDACReadSearch     Capability = 2
	CapSetPCAP           Capability = 8
	CapSysPtrace         Capability = 19
	CapSysAdmin          Capability = 21
	CapSysResource       Capability = 24
	CapSyslog            Capability = 34
	CapPerfmon           Capability = 38 // since Linux 5.8
	CapBPF               Capability = 39 // since Linux 5.8
	CapCheckpointRestore Capability = 40 // since Linux 5.9
)

func (c Capability) String() string {
	switch c {
	case CapDACReadSearch:
		return "CAP_DAC_READ_SEARCH"
	case CapSetPCAP:
		return "CAP_SETPCAP"
	case CapSysPtrace:
		return "CAP_SYS_PTRACE"
	case CapSysAdmin:
		return "CAP_SYS_ADMIN"
	case CapSysResource:
		return "CAP_SYS_RESOURCE"
	case CapSyslog:
		return "CAP_SYSLOG"
	case CapPerfmon:
		return "CAP_PERFMON"
	case CapBPF:
		return "CAP_BPF"
	case CapCheckpointRestore:
		return "CAP_CHECKPOINT_RESTORE"
	}
	return fmt.Sprintf("capability %d", uint(c))
}

// Capabilities is a set of privileges.
type Capabilities uint64

// Has reports whether c is in the set.
func (s Capabilities) Has(c Capability) bool { return s&(1<<c) != 0 }

// OwnCapabilities are the privileges in effect for this program.
func OwnCapabilities() (Capabilities, error) {
	b, err := os.ReadFile(Root + "/self/status")
	if err != nil {
		return 0, err
	}
	return parseCapabilities(string(b))
}

func parseCapabilities(status string) (Capabilities, error) {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return Capabilities(set), err
		}
	}
	return 0, fmt.Errorf("parse process status: no CapEff")
}
