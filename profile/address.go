// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"path"
	"strings"
)

// Addr is a place in a process's memory (or in the kernel's, for kernel frames).
type Addr uint64

// ObjAddr is the same place as the object's own headers give it: what symbol
// tables are written in. Addr − ObjAddr is the load bias of one mapping.
type ObjAddr uint64

func (a Addr) String() string    { return fmt.Sprintf("0x%x", uint64(a)) }
func (a ObjAddr) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// BuildID names an object's content: the GNU build ID in lower-case hex; where
// there is none, Go's ("go:…"); else a hash of the file, marked as one
// ("hash:…"). Empty when the object could not be read.
type BuildID string

// IsGNU says whether it is a build ID by which files are found: hex digits, of
// at least two bytes.
func (id BuildID) IsGNU() bool {
	return len(id) >= 4 && strings.Trim(string(id), "0123456789abcdef") == ""
}

// DebugPath is where files of a GNU build ID lie below a .build-id folder, as
// "xx/yyyy"; debug files have ".debug" after it. False for other IDs.
func (id BuildID) DebugPath() (string, bool) {
	if !id.IsGNU() {
		return "", false
	}
	return string(id[:2]) + "/" + string(id[2:]), true
}

// MappingKind says what stands behind a mapping.
type MappingKind uint8

const (
	MappingObject    MappingKind = iota // an ELF file
	MappingVDSO                         // the kernel's own object in every process
	MappingAnonymous                    // code without a file: a JIT's
	MappingKernel                       // the running kernel, modules and BPF programs included
)

// Mapping is a range of a process's memory and the object behind it.
type Mapping struct {
	Start, Limit Addr  // half open
	Offset       int64 // in the file, of Start
	Path         string
	BuildID      BuildID
	Kind         MappingKind
}

// KernelPath is the Path of the mapping that stands for the kernel. Modules have
// their names in brackets, BPF programs together are [bpf].
const KernelPath = "[kernel.kallsyms]"

// AnonymousObject is the Object of code without a file.
const AnonymousObject = "[anonymous]"

// Contains reports whether a lies in [Start, Limit).
func (m *Mapping) Contains(a Addr) bool { return m.Start <= a && a < m.Limit }

// Object is the short name people know the mapping's object by: libc.so.6,
// [vdso], [kernel], [nf_conntrack]; [anonymous] for code without a file.
func (m *Mapping) Object() string {
	switch {
	case m.Kind == MappingKernel && m.Path != KernelPath && strings.HasPrefix(m.Path, "["):
		return m.Path
	case m.Kind == MappingKernel:
		return "[kernel]"
	case m.Kind == MappingVDSO:
		return "[vdso]"
	case m.Kind == MappingAnonymous || m.Path == "":
		return AnonymousObject
	}
	return path.Base(m.Path)
}

// MappingID is an index into [Profile.Mappings].
type MappingID int32

// NoMapping is the MappingID of an address that lies in no known mapping.
const NoMapping MappingID = -1

// AddressID is an index into [Profile.Addresses].
type AddressID uint32

// Address is one place in code that samples went through.
type Address struct {
	Addr    Addr
	Mapping MappingID
	// Return says that Addr is a return address: where the caller goes on,
	// not the call itself.
	Return bool
	// ObjAddr is where Lookup lies in the object's own addresses, once the
	// object was read; else 0, at which no object has code. It outlives the
	// process, so that what has no name can be named later.
	ObjAddr ObjAddr
	// Frames are the function activations at this address, innermost first:
	// one, or more where calls were inlined. Empty until symbolized.
	Frames []Frame
}

// Lookup is the address to look names, lines and unwind rules up by. A call
// may be the last instruction of its function (the callee never returns), so
// a return address may lie in the next one; one byte earlier is always inside
// the call. The leaf and interrupted frames stand on an instruction that was
// not yet executed, and are looked up as they are. This method is the one
// home of that rule.
func (a *Address) Lookup() Addr {
	if a.Return && a.Addr > 0 {
		return a.Addr - 1
	}
	return a.Addr
}

// FrameKind says whose code a frame is.
type FrameKind uint8

const (
	FrameUser FrameKind = iota
	FrameKernel
	FrameThread // not code: the thread's name, at the root of trees
	FrameHost   // not code: the host's name, before that
)

// Code says whether it is a function at all.
func (k FrameKind) Code() bool { return k < FrameThread }

// Frame is one function activation.
type Frame struct {
	// Name as people read it: demangled. For an address without a name it is
	// the object in brackets ("[libfoo.so]") or "[unknown]".
	Name string
	// SystemName is the name as the symbol table has it (mangled).
	SystemName string
	// File is the source file, as the compiler was given it, and Line the line
	// in it: of the call that was going on, or of the code itself in the leaf.
	// Empty and 0 where that is not known.
	File string
	Line int
	Kind FrameKind
	// Unknown says that no name was found.
	Unknown bool
}

// UnknownFrame is the frame of an address without a name in m; m may be nil.
func UnknownFrame(m *Mapping) Frame {
	f := Frame{Name: "[unknown]", Unknown: true}
	if m != nil {
		switch o := m.Object(); {
		case m.Kind == MappingKernel:
			f.Name, f.Kind = o, FrameKernel
		case o[0] == '[':
			f.Name = o
		default:
			f.Name = "[" + o + "]"
		}
	}
	f.SystemName = f.Name
	return f
}
