// SPDX-License-Identifier: Apache-2.0

package folded

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Line is one folded line: a stack, root first, and its count.
type Line struct {
	Frames []string
	Count  uint64
}

// What Parse accepts at most. Folded text comes from anywhere; each limit is
// well above what a profile of ours can reach, and together they keep a hostile
// file from costing more than about half a gigabyte.
const (
	maxLine   = 4 << 20   // bytes: 400 frames of 10 kB, which is a long C++ name
	maxInput  = 256 << 20 // bytes
	maxFrames = 8 << 20   // over all lines: 16 bytes each in Line.Frames
)

var (
	errTooLarge = errors.New("input too large")
	errNoCount  = errors.New("no count at the end of the line")
)

// Parse reads folded text, ours or that of any other tool, line by line as it
// stands: names are not changed and equal stacks not merged. The count is what
// follows the last space and must be an integer. Empty lines are skipped, and
// so are lines that begin with '#' and have no count, which is how some tools
// write a header.
func Parse(r io.Reader) ([]Line, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	p := parser{names: map[string]string{}}
	n := 0
	for in.Scan() {
		n++
		if err := p.line(in.Text()); err != nil {
			return nil, fmt.Errorf("parse folded line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("parse folded line %d: %w", n+1, err)
	}
	return p.lines, nil
}

type parser struct {
	lines []Line
	names map[string]string // each name once, so that a Line keeps no text alive

	bytes, frames int
	total         uint64
}

func (p *parser) line(s string) error {
	if p.bytes += len(s) + 1; p.bytes > maxInput {
		return errTooLarge
	}
	if s == "" {
		return nil
	}
	stack, count, err := cut(s)
	if err != nil {
		if s[0] == '#' {
			return nil
		}
		return err
	}
	if count > math.MaxUint64-p.total {
		return errors.New("counts add up to more than 64 bits")
	}
	p.total += count
	depth := 1 + strings.Count(stack, ";")
	if p.frames += depth; p.frames > maxFrames {
		return errTooLarge
	}
	frames := make([]string, 0, depth)
	for name := range strings.SplitSeq(stack, ";") {
		frames = append(frames, p.name(name))
	}
	p.lines = append(p.lines, Line{frames, count})
	return nil
}

func (p *parser) name(s string) string {
	if kept, ok := p.names[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	p.names[s] = s
	return s
}

// cut divides a line at its last space.
func cut(s string) (stack string, count uint64, err error) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return "", 0, errNoCount
	}
	for _, c := range []byte(s[i+1:]) {
		if c < '0' || c > '9' { // a sign, which ParseUint refuses, or a fraction
			return "", 0, errNoCount
		}
	}
	count, err = strconv.ParseUint(s[i+1:], 10, 64)
	if errors.Is(err, strconv.ErrSyntax) { // nothing after the space
		return "", 0, errNoCount
	}
	return s[:i], count, err
}
