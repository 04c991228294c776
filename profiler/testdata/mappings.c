// SPDX-License-Identifier: Apache-2.0

// Maps as many pages of code as argument 1 says, none of which has a neighbor,
// fills each with a function that calls another (with a frame pointer, as JIT
// compilers do), and goes through them: main -> page -> leaf.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static __attribute__((noinline, noclone)) uint64_t leaf(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

// push %rbp; mov %rsp,%rbp; movabs leaf,%rax; call *%rax; pop %rbp; ret
static const uint8_t code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 700;
	uint8_t *all = mmap(NULL, n * 8192ul, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t (*target)(uint64_t) = leaf;

	if (all == MAP_FAILED)
		return 1;
	for (int i = 0; i < n; i++) {
		uint8_t *page = all + i * 8192ul;

		if (mprotect(page, 4096, PROT_READ | PROT_WRITE))
			return 1;
		memcpy(page, code, sizeof code);
		memcpy(page + 6, &target, sizeof target);
		if (mprotect(page, 4096, PROT_READ | PROT_EXEC))
			return 1;
	}
	puts("ready");
	fflush(stdout);
	for (uint64_t x = 1;; x++)
		((uint64_t (*)(uint64_t))(all + x % n * 8192ul))(x);
}
