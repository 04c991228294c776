// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// maxLine is the longest line of folded text that is read, in bytes. A stack of
// ours has at most some 640 frames, and frames of 6 KiB are long ones.
const maxLine = 4 << 20

// eachLine yields the lines of folded text without their ends. A line is valid
// until the next one.
func eachLine(text io.Reader, each func(line []byte) error) error {
	in := bufio.NewScanner(text)
	in.Buffer(make([]byte, 0, 64<<10), maxLine)
	for in.Scan() {
		if err := each(in.Bytes()); err != nil {
			return err
		}
	}
	return in.Err()
}

// jsonSize is how many bytes a line takes in a JSON string, its end included and
// at most: encoding/json also escapes what HTML would.
func jsonSize[T []byte | string](line T) int {
	n := len(`\n`)
	for i := range len(line) {
		switch c := line[i]; {
		case c == '\n' && i == len(line)-1: // is counted
		case c == '"', c == '\\', c == '\n':
			n += 2
		case c < ' ', c >= 0x7f, c == '<', c == '>', c == '&':
			n += 6
		default:
			n++
		}
	}
	return n
}

// hottest keeps those lines with the highest counts for which there is room,
// and never has more than half as much again in memory.
type hottest struct {
	room    int    // as lines count in JSON
	stacks  int    // of all lines
	samples uint64 // of all lines

	kept  []hotLine
	size  int
	floor uint64 // lines that are no hotter have no chance any more
}

type hotLine struct {
	text  string
	count uint64
	size  int
	at    int // which line it is; of equal ones the first is kept
}

func (h *hottest) read(text io.Reader) error {
	err := eachLine(text, h.add)
	h.cut()
	slices.SortFunc(h.kept, func(a, b hotLine) int { return cmp.Compare(a.at, b.at) })
	return err
}

func (h *hottest) add(line []byte) error {
	h.stacks++
	count, err := strconv.ParseUint(string(line[bytes.LastIndexByte(line, ' ')+1:]), 10, 64)
	if err != nil {
		return fmt.Errorf("line %d of the folded text has no count: %w", h.stacks, err)
	}
	h.samples += count
	size := jsonSize(line)
	if count <= h.floor || size > h.room {
		return nil
	}
	h.kept = append(h.kept, hotLine{string(line), count, size, h.stacks})
	if h.size += size; h.size > h.room+h.room/2 {
		h.cut()
	}
	return nil
}

// cut drops what is colder than the first line for which there is no room.
func (h *hottest) cut() {
	slices.SortFunc(h.kept, hotter)
	h.size = 0
	for i, l := range h.kept {
		if h.size+l.size > h.room {
			h.floor = max(h.floor, l.count)
			clear(h.kept[i:])
			h.kept = h.kept[:i]
			return
		}
		h.size += l.size
	}
}

// length is that of all lines that are kept, with their ends.
func (h *hottest) length() (n int) {
	for _, l := range h.kept {
		n += len(l.text) + 1
	}
	return n
}

func hotter(a, b hotLine) int { return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.at, b.at)) }
