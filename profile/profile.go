// SPDX-License-Identifier: Apache-2.0

// Package profile is the data: what one session yields, and everything that
// can be said about it without asking the kernel, a file or the network.
//
// A [Profile] is metadata and samples. A [Sample] is one stack of one thread
// with its count; its addresses are shared through the profile's tables, leaf
// first. Views over it are computed, never stored: the call tree
// ([Profile.Tree]), the table of functions ([Profile.Functions]).
package profile

import (
	"fmt"
	"iter"
	"path"
	"time"
)

// Frequency is in samples a second and CPU (Hz).
type Frequency int

// Period is the time one sample stands for.
func (f Frequency) Period() time.Duration {
	if f <= 0 {
		return 0
	}
	return time.Second / time.Duration(f)
}

// Thread is one OS thread under the name it had when sampled.
type Thread struct {
	PID, TID int
	Comm     string // the kernel's thread name, at most 15 bytes, any bytes
	Host     string // in a profile of several hosts; else empty, and Metadata.Host is meant
}

// Stack is the addresses of one thread at one moment, leaf first. The kernel
// part, if there is one, lies on the leaf side of the user part.
type Stack struct {
	Kernel, User []Addr
	End          End  // how the user part ended
	Truncated    bool // a part was cut at the depth limit, root side lost
	// Interrupted has a bit for each of the first 32 user addresses: set where
	// the frame was interrupted rather than calling, so that the address is no
	// return address. That is the leaf, and what lies below signal handlers.
	Interrupted uint32
}

// IsReturn reports whether user address i is a return address.
func (s *Stack) IsReturn(i int) bool { return i >= 32 || s.Interrupted&(1<<i) == 0 }

// Sample is one stack of one thread with the number of times it was seen.
type Sample struct {
	Thread
	Addresses []AddressID // leaf first, kernel part before user part
	Truncated bool
	Count     uint64
	// Time is the CPU time that it stands for, where that is not Count times the
	// period of the profile's frequency; else 0. See [Profile.AtOneFrequency].
	Time time.Duration
}

// Profile is what one session yields.
type Profile struct {
	Meta      Metadata
	Mappings  []Mapping
	Addresses []Address
	Samples   []Sample

	byHost bool // see ByHost
}

// Counts says how good the data is, in samples. The three ways to be
// imperfect are never merged.
type Counts struct {
	Samples   uint64 `json:"samples"`   // kept: the sum of all Sample.Count
	Lost      uint64 `json:"lost"`      // taken, but not kept for lack of room
	Truncated uint64 `json:"truncated"` // kept, but the stack was too deep
	Unknown   uint64 `json:"unknown"`   // kept, but some frame has no name
}

// Ended says why sampling ended.
type Ended string

const (
	EndedDuration    Ended = "duration reached"
	EndedInterrupted Ended = "interrupted"
	EndedExited      Ended = "target exited"
	EndedRevoked     Ended = "permission ended" // to sample the target
)

// Target is one profiled process.
type Target struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // of the main thread, as ps shows it: redis-server
	// Command is the executable's path; never its arguments. It may say
	// something else than Name, where one file serves several programs.
	Command string `json:"command"`
	Host    string `json:"host,omitempty"` // in a profile of several
}

// Metadata describes the session that made a profile. Its JSON form is what
// --metadata writes and what the formats embed.
type Metadata struct {
	Tool        string    `json:"tool"`         // "srprof"
	ToolVersion string    `json:"tool_version"` // of the module
	Host        string    `json:"host"`         // or what several are called together
	Kernel      string    `json:"kernel"`       // release, as uname -r
	Arch        string    `json:"arch"`         // amd64, arm64
	Targets     []Target  `json:"targets"`
	Event       string    `json:"event"`       // "cpu-clock"
	UserStacks  string    `json:"user_stacks"` // how user stacks were walked: "frame pointer"
	FrequencyHz Frequency `json:"frequency_hz"`
	CPUs        int       `json:"cpus"` // sampled
	Start       time.Time `json:"start_time"`
	FirstSample time.Time `json:"first_sample_time"` // zero if there was none
	DurationNs  int64     `json:"duration_ns"`       // that sampling really lasted
	SymbolizeNs int64     `json:"symbolize_ns"`      // from the end of sampling to names
	Ended       Ended     `json:"ended"`
	Counts      Counts    `json:"counts"`
	Threads     int       `json:"threads"` // seen in samples
	// Ends counts the samples with a user stack by how its walk ended.
	Ends      map[string]uint64 `json:"stack_ends,omitempty"`
	CPUTimeNs int64             `json:"cpu_time_ns"` // used by the targets meanwhile, by the kernel's own account
	Warnings  []string          `json:"warnings,omitempty"`
	Unnamed   []Unnamed         `json:"unnamed,omitempty"`  // what has no name and why, most samples first
	Comments  []string          `json:"comments,omitempty"` // of another tool that the profile came from

	// Hosts are those that a profile of several is of, or should be, by name.
	Hosts []HostPart `json:"hosts,omitempty"`
}

// Title is what people call the process by.
func (t *Target) Title() string {
	if t.Name == "" && t.Command != "" {
		return path.Base(t.Command)
	}
	return t.Name
}

// Duration that sampling really lasted.
func (m *Metadata) Duration() time.Duration { return time.Duration(m.DurationNs) }

// Command is a short name of what was profiled: "redis-server", or
// "redis-server and 2 more". What has one name on several hosts is one thing.
func (m *Metadata) Command() string {
	if len(m.Targets) == 0 {
		return ""
	}
	title, more := m.Targets[0].Title(), len(m.Targets)-1
	if len(m.Hosts) > 0 {
		titles := map[string]bool{}
		for i := range m.Targets {
			titles[m.Targets[i].Title()] = true
		}
		more = len(titles) - 1
	}
	if more == 0 {
		return title
	}
	return fmt.Sprintf("%s and %d more", title, more)
}

// Warn adds a sentence that the reader of the profile must know.
func (m *Metadata) Warn(sentence string) { m.Warnings = append(m.Warnings, sentence) }

// Mapping returns the mapping of an address, nil if it lies in none.
func (p *Profile) Mapping(id MappingID) *Mapping {
	if id < 0 || int(id) >= len(p.Mappings) {
		return nil
	}
	return &p.Mappings[id]
}

// Frames yields the frames of a sample, leaf first, each with its address. An
// address that was not symbolized yields one unknown frame.
func (p *Profile) Frames(s *Sample) iter.Seq2[*Address, *Frame] {
	return func(yield func(*Address, *Frame) bool) {
		for _, id := range s.Addresses {
			a := &p.Addresses[id]
			if len(a.Frames) == 0 {
				f := UnknownFrame(p.Mapping(a.Mapping))
				if !yield(a, &f) {
					return
				}
				continue
			}
			for i := range a.Frames {
				if !yield(a, &a.Frames[i]) {
					return
				}
			}
		}
	}
}

// Count sums up the samples and fills in Meta.Counts (all but Lost, which only
// the sampler knows) and Meta.Threads. Call it after symbolizing.
func (p *Profile) Count() {
	p.countSamples()
	threads := map[Thread]bool{}
	for i := range p.Samples {
		s := &p.Samples[i]
		threads[Thread{Host: s.Host, PID: s.PID, TID: s.TID}] = true
	}
	p.Meta.Threads = len(threads)
}

func (p *Profile) countSamples() {
	c := Counts{Lost: p.Meta.Counts.Lost}
	for i := range p.Samples {
		s := &p.Samples[i]
		c.Samples += s.Count
		if s.Truncated {
			c.Truncated += s.Count
		}
		if p.hasUnknown(s) {
			c.Unknown += s.Count
		}
	}
	p.Meta.Counts = c
}

func (p *Profile) hasUnknown(s *Sample) bool {
	for _, f := range p.Frames(s) {
		if f.Unknown {
			return true
		}
	}
	return false
}
