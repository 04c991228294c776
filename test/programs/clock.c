//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Reads the clock all the time, which happens in the vDSO: code that no file
// holds. The kernel's copy has no frame pointers, so only leaves are stated.
//
// build: -O2
// expect: __vdso_clock_gettime >50

#include <stdint.h>
#include <stdio.h>
#include <time.h>

int main(void)
{
	struct timespec now;

	puts("ready");
	fflush(stdout);
	for (volatile uint64_t x = 0;; x += now.tv_nsec)
		clock_gettime(CLOCK_MONOTONIC, &now);
}
