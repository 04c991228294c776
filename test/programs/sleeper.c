//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Sleeps.
//
// build: -O2

#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
