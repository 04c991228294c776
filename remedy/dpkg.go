// SPDX-License-Identifier: Apache-2.0

package remedy

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// dpkgInfo has a file NAME.list or NAME:ARCHITECTURE.list for each installed
// package, with the paths of its files, one a line (dpkg-query(1)).
const dpkgInfo = "var/lib/dpkg/info"

// What is read of the database at most. A desktop has 5,000 packages and 50 MB
// of paths.
const (
	maxPackages = 20_000
	maxPaths    = 128 << 20 // bytes, of all lists
)

// owners tells which packages files are from, by path. Debian merged /lib into
// /usr/lib; its lists have the one, the kernel the other.
func (h Host) owners(paths []string) map[string]string {
	asked := map[string]string{} // as it may stand in a list → as it was asked for
	for _, p := range paths {
		asked[p] = p
		if short, ok := strings.CutPrefix(p, "/usr/"); ok {
			asked["/"+short] = p
		}
	}
	lists, err := filepath.Glob(filepath.Join(h.path(dpkgInfo), "*.list"))
	if err != nil || len(lists) > maxPackages {
		return nil
	}
	owners := map[string]string{}
	left := maxPaths
	buffer := make([]byte, 64<<10)
	for _, list := range lists {
		if left <= 0 || len(owners) == len(paths) {
			break
		}
		left -= eachLine(list, buffer, func(line []byte) {
			if p, ok := asked[string(line)]; ok {
				name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(list), ".list"), ":")
				owners[p] = name
			}
		})
	}
	return owners
}

// eachLine returns how many bytes it read. A list that cannot be read only
// means that an owner is not found.
func eachLine(file string, buffer []byte, each func(line []byte)) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	n := 0
	in := bufio.NewScanner(f)
	in.Buffer(buffer, len(buffer))
	for in.Scan() {
		n += len(in.Bytes()) + 1
		each(in.Bytes())
	}
	return n
}

// quoted is a path as a shell takes it.
func quoted(p string) string {
	if strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return p
	}
	return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
}
