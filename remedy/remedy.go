// SPDX-License-Identifier: Apache-2.0

// Package remedy says what helps where code of an object has no name: which
// package has its debug information, as far as this host knows what package
// the object is from.
//
// It reads the host's package database and os-release, changes nothing and
// runs no program. The database is a list of files for each package; finding
// the owners of all objects takes one pass over it, some 10 ms for a thousand
// packages.
package remedy

import (
	"bufio"
	"cmp"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Host is where packages are looked for.
type Host struct {
	Root string // folder with the host's files; "" means /
}

// anywhere is what helps whatever host it is.
const anywhere = "give the file with its symbols, before it was stripped: srprof symbolize --debug-dir DIR"

// Fill says what helps for those that can be helped by a debug file, and have
// no remedy yet.
func (h Host) Fill(us []profile.Unnamed) {
	var paths []string
	for i := range us {
		if wantsFile(&us[i]) && us[i].Path != "" {
			paths = append(paths, us[i].Path)
		}
	}
	var owners map[string]string
	system := h.system()
	if len(paths) > 0 && system.debian {
		owners = h.owners(paths)
	}
	for i := range us {
		u := &us[i]
		if !wantsFile(u) {
			continue
		}
		u.Remedy = anywhere
		if !h.has(u) { // another one of that name, in a container maybe
			continue
		}
		switch name := owners[u.Path]; {
		case name != "":
			u.Remedy = "install " + debugPackage(name, system.archive)
		case h.rpms():
			u.Remedy = "run debuginfo-install $(rpm -qf " + quoted(u.Path) + ")"
		}
	}
}

// rpms says whether the host is made of rpm packages. Their database is there
// too where the program rpm is but a tool; then the other one has the files.
func (h Host) rpms() bool {
	return !h.exists("var/lib/dpkg/status") && (h.exists("usr/lib/sysimage/rpm") || h.exists("var/lib/rpm"))
}

func wantsFile(u *profile.Unnamed) bool {
	return u.Remedy == "" && (u.Reason == profile.ReasonStripped || u.Reason == profile.ReasonNotCovered)
}

// debugPackage is the package with the debug information of another: Debian's
// debhelper makes NAME-dbgsym of each; the C library's has an older name.
func debugPackage(name, archive string) string {
	if name == "libc6" || name == "libc-bin" {
		return "libc6-dbg"
	}
	return name + "-dbgsym from " + archive
}

// system is what os-release says.
type system struct {
	debian  bool
	archive string // where dbgsym packages are
}

func (h Host) system() system {
	f, err := os.Open(h.path("etc/os-release"))
	if err != nil {
		return system{}
	}
	defer f.Close()
	ids, suite := "", ""
	for in := bufio.NewScanner(io.LimitReader(f, 64<<10)); in.Scan(); {
		key, value, _ := strings.Cut(in.Text(), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids += " " + strings.Trim(value, `"'`)
		}
		if key == "VERSION_CODENAME" {
			suite = " (suite " + strings.Trim(value, `"'`) + "-debug)" // as sources.list has it
		}
	}
	for _, id := range strings.Fields(ids) {
		switch id {
		case "ubuntu":
			return system{true, "ddebs.ubuntu.com"}
		case "debian":
			return system{true, "the archive debian-debug" + suite}
		}
	}
	return system{}
}

// has says whether the object is the host's file of that path, by its content.
func (h Host) has(u *profile.Unnamed) bool {
	if u.BuildID == "" {
		return false
	}
	fd, err := unix.Open(h.path(u.Path), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG { // opening anything else might do something
		return false
	}
	file, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return false
	}
	o, err := object.Open(file)
	if err != nil {
		return false
	}
	defer o.Close()
	return o.BuildID() == u.BuildID
}

func (h Host) path(p string) string { return filepath.Join(cmp.Or(h.Root, "/"), p) }

func (h Host) exists(p string) bool {
	_, err := os.Stat(h.path(p))
	return err == nil
}
