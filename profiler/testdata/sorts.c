// SPDX-License-Identifier: Apache-2.0

// Sorts for ever: the C library does that in functions that it does not export.
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int main(void)
{
	static int numbers[10000];
	puts("ready");
	fflush(stdout);
	for (unsigned seed = 1;;) {
		for (int i = 0; i < 10000; i++)
			numbers[i] = (seed = seed * 1103515245 + 12345) >> 8;
		qsort(numbers, 10000, sizeof *numbers, compare);
	}
}
