// SPDX-License-Identifier: Apache-2.0

// Package otel_test holds our unwind tables against those of the OpenTelemetry
// eBPF profiler, whose reader of .eh_frame was written by others for the same
// purpose. It is a module of its own, so that what their profiler brings along
// stays out of ours.
package otel_test

import (
	"debug/elf"
	"regexp"
)

// difference is one stretch of code for which the readers differ.
type difference struct {
	start, limit uint64
	ours, theirs string
}

// compare walks over both readers' spans and calls differ for each stretch
// with one rule of each that are not equal. It returns the bytes of code that
// both describe.
func compare(a, b []span, equal func(a, b string) bool, differ func(difference)) (both uint64) {
	for i, k := 0, 0; i < len(a) && k < len(b); {
		start, limit := max(a[i].start, b[k].start), min(a[i].limit, b[k].limit)
		if start < limit {
			switch {
			case !equal(a[i].rule, b[k].rule):
				differ(difference{start, limit, a[i].rule, b[k].rule})
			case a[i].rule != none:
				both += limit - start
			}
		}
		if a[i].limit <= b[k].limit {
			i++
		} else {
			k++
		}
	}
	return both
}

var framePointer = regexp.MustCompile(` FP=\*\(CFA-\d+\)`)

// equality is how rules are compared: as they are, but for arm64 without the
// frame pointer. What we cannot express and what they have no word for is the
// same answer.
func equality(m elf.Machine) func(a, b string) bool {
	return func(a, b string) bool {
		if m == elf.EM_AARCH64 {
			a = framePointer.ReplaceAllString(a, "")
		}
		return a == b || a == "invalid" && b == none
	}
}
