// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"math"
	"strings"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
)

// Expectation is a part of a stack and how often it must be seen.
type Expectation struct {
	Frames  []string // one called by the other, root first
	Share   float64  // of all samples
	AtLeast bool     // more is right too
}

func (e *Expectation) String() string { return strings.Join(e.Frames, ";") }

// In reports whether the frames follow one another somewhere in a stack.
func (e *Expectation) In(stack []string) bool {
	for ; len(stack) >= len(e.Frames); stack = stack[1:] {
		if e.begins(stack) {
			return true
		}
	}
	return false
}

func (e *Expectation) begins(stack []string) bool {
	for i, want := range e.Frames {
		if start, any := strings.CutSuffix(want, "*"); any {
			if !strings.HasPrefix(stack[i], start) {
				return false
			}
		} else if stack[i] != want {
			return false
		}
	}
	return true
}

const (
	// sigmas is how far chance may lead: beyond 4 it does once in 16,000 times.
	sigmas = 4
	// slack is for what is no chance: the instructions before a frame is set
	// up, and what the kernel does on a thread's behalf before a function runs.
	slack = 0.012
	// few is the same where there are few samples: one or two such moments.
	few = 2
)

// Compare checks folded lines against what is expected, and returns a sentence
// for each share that is neither right nor within sampling error.
func Compare(expect []Expectation, lines []folded.Line) []string {
	n := Samples(lines)
	if n == 0 {
		return []string{"there are no samples"}
	}
	var wrong []string
	for i := range expect {
		e := &expect[i]
		got := float64(Count(lines, e.In)) / float64(n)
		allowed := slack + few/float64(n) + sigmas*math.Sqrt(e.Share*(1-e.Share)/float64(n))
		if got < e.Share-allowed || got > e.Share+allowed && !e.AtLeast {
			wrong = append(wrong, fmt.Sprintf("%s: %.1f %% of %d samples, want %.1f %% ± %.1f", e, 100*got, n, 100*e.Share, 100*allowed))
		}
	}
	return wrong
}

// Samples is the sum of all counts.
func Samples(lines []folded.Line) uint64 {
	return Count(lines, func([]string) bool { return true })
}

// Count sums up the counts of the stacks that in accepts.
func Count(lines []folded.Line, in func(stack []string) bool) uint64 {
	var n uint64
	for _, l := range lines {
		if in(l.Frames) {
			n += l.Count
		}
	}
	return n
}
