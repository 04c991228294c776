// SPDX-License-Identifier: Apache-2.0

package profile

import "fmt"

// End says how the walk of a user stack ended. The numbers are those of enum
// stack_end in bpf/abi.h.
type End uint8

const (
	EndNone       End = iota // there is no user part
	EndRoot                  // complete: the thread's entry was reached
	EndTruncated             // too deep
	EndNoTable               // frame pointers led nowhere in code without an unwind table
	EndUnreadable            // stack memory that is not there
	EndBadStack              // the caller's frame would lie below its callee's
	EndBadAddress            // a return address outside all executable mappings
	EndInvalid               // an unwind rule that cannot be expressed
	EndFallback              // walked by frame pointer, in part at least, before the tables were there
	ends
)

var endNames = [ends]string{"none", "complete", "truncated", "no table", "unreadable", "bad stack", "bad address", "invalid rule", "frame pointer only"}

// String is the word for it in reports and metadata.
func (e End) String() string {
	if e < ends {
		return endNames[e]
	}
	return fmt.Sprintf("end %d", uint8(e))
}
