// SPDX-License-Identifier: Apache-2.0
/*
 * A process with a secret in each place that a profiler could see: its
 * arguments, its environment, and all over its stack. Half of the time it runs
 * in code without an unwind table, with a frame pointer that leads into the
 * secret: what follows frame pointers takes words of it for addresses.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 512

static __attribute__((noinline)) uint64_t astray(volatile char *secret)
{
	uint64_t n = 30000000;
	__asm__ volatile("push %%rbp\n\t"
			 "mov %1, %%rbp\n\t"
			 "1: dec %0\n\t"
			 "jnz 1b\n\t"
			 "pop %%rbp"
			 : "+r"(n)
			 : "r"(secret)
			 : "memory", "cc");
	return n;
}

static __attribute__((noinline)) uint64_t plain(volatile char *secret)
{
	uint64_t x = (uint64_t)secret[0];
	for (volatile int i = 0; i < 10000000; i++)
		x = x * 3 + 1;
	return x;
}

static __attribute__((noinline)) uint64_t deeper(int depth, const char *word)
{
	char secret[WORDS * 8 + 1]; // a word of it at each multiple of 8
	for (int i = 0; i < WORDS; i++)
		memcpy(secret + 8 * i, word, 8);
	secret[WORDS * 8] = 0;
	volatile char *kept = secret;
	if (depth > 0)
		return deeper(depth - 1, word) + kept[depth];
	for (uint64_t x = 0;; x += astray(kept) + plain(kept))
		kept[WORDS * 8] = (char)x;
}

int main(int argc, char **argv)
{
	char word[16];
	if (argc < 2 || !getenv("CANARY") || !fgets(word, sizeof word, stdin))
		return 2;
	puts("ready");
	fflush(stdout);
	return (int)deeper(6, word);
}
