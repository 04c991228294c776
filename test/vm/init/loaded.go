// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is what the kernel says of a loaded program: struct bpf_prog_info of
// include/uapi/linux/bpf.h, up to what we read.
type program struct {
	Type, ID      uint32
	Tag           [8]byte
	JitedLen      uint32 // in bytes
	TranslatedLen uint32 // in bytes, 8 each instruction
	Jited         uint64
	Translated    uint64
	LoadTime      uint64
	UID           uint32
	MapCount      uint32
	Maps          uint64
	Name          [16]byte
	_             [136]byte // interface, namespaces, debugging information, run statistics
	Verified      uint32    // instructions, from Linux 5.16 on
	_             [12]byte
}

func (p *program) String() string {
	verified := "an unknown number of"
	if p.Verified > 0 {
		verified = strconv.Itoa(int(p.Verified))
	}
	return fmt.Sprintf("program %s: %d instructions, %s verified, %d bytes of machine code",
		unix.ByteSliceToString(p.Name[:]), p.TranslatedLen/8, verified, p.JitedLen)
}

// ownPrograms are those that this process holds by file descriptors.
func ownPrograms() ([]*program, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var all []*program
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || to != "anon_inode:bpf-prog" {
			continue // the one of the folder itself is closed already
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		p, err := programOf(fd)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func programOf(fd int) (*program, error) {
	var p program
	attr := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(fd), uint32(unsafe.Sizeof(p)), unsafe.Pointer(&p)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_OBJ_GET_INFO_BY_FD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return nil, fmt.Errorf("ask for a program: %w", errno)
	}
	return &p, nil
}
