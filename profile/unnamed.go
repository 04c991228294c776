// SPDX-License-Identifier: Apache-2.0

package profile

import "fmt"

// Unnamed is the code of one object that has no name, for one reason.
type Unnamed struct {
	Object    string  `json:"object"` // short name, as Mapping.Object gives it; "[unknown]" outside all mappings
	Path      string  `json:"path,omitempty"`
	BuildID   BuildID `json:"build_id,omitempty"`
	Samples   uint64  `json:"samples"`   // that have such a frame
	Self      uint64  `json:"self"`      // whose leaf is one
	Addresses int     `json:"addresses"` // that samples went through
	Reason    Reason  `json:"reason"`
	Why       string  `json:"why"`              // the reason in a sentence, with what is known of the case
	Remedy    string  `json:"remedy,omitempty"` // what to do; "" if nothing helps
}

// String is one sentence for people.
func (u *Unnamed) String() string {
	s := fmt.Sprintf("%s: %d samples have frames without a name: %s", u.Object, u.Samples, u.Why)
	if u.Remedy != "" {
		s += "; " + u.Remedy
	}
	return s
}

// Reason says why code has no name. The words are stable, for programs.
type Reason string

const (
	ReasonStripped     Reason = "stripped"      // the object has no symbol table, and no debug file was found
	ReasonNotCovered   Reason = "not covered"   // no symbol that the object has covers the address
	ReasonReplaced     Reason = "replaced"      // the file is another one by now, or was deleted
	ReasonGone         Reason = "gone"          // the process or the file was over before it could be read
	ReasonNotPermitted Reason = "not permitted" // to read the file
	ReasonMade         Reason = "made"          // at run time, without a list of its names
	ReasonHidden       Reason = "hidden"        // the kernel shows no addresses
	ReasonUnreadable   Reason = "unreadable"    // a file or table that is there, but breaks its format's rules
	ReasonNoMapping    Reason = "no mapping"    // the address lies in none, so is probably no code
	ReasonNoFile       Reason = "no file"       // to look into, and the process is over
	ReasonSeveral      Reason = "several"       // what is left, in one sum
)

// Named is how many addresses have a name.
func (p *Profile) Named() int {
	n := 0
	for i := range p.Addresses {
		if p.Addresses[i].Named() {
			n++
		}
	}
	return n
}

// Named says whether some name was found for the address.
func (a *Address) Named() bool {
	return len(a.Frames) > 1 || len(a.Frames) == 1 && !a.Frames[0].Unknown
}
