//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Loads one of two libraries, runs its function for some milliseconds, unloads
// it and goes on with the other one, which comes to lie at the same address:
// what is there has the frames of another library now. Names are withheld where
// a stack may be of either. It begins when a byte comes on standard input.
//
// build: -O2
// stack: (start);main|run;plugin_first;small;spin
// stack: (start);main|run;plugin_second;large;wide;spin
// also: (start);main|run;(loading){1,30}
// also: (start);main|run;[unknown]{1,4}

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static NOINLINE uint64_t run(const char *path, const char *name, uint64_t x)
{
	void *library = dlopen(path, RTLD_NOW);
	uint64_t (*plugin)(uint64_t);

	if (!library || !(*(void **)&plugin = dlsym(library, name))) {
		fprintf(stderr, "%s\n", dlerror());
		return 0;
	}
	x = plugin(x) | 1;
	dlclose(library);
	return x;
}

int main(void)
{
	char byte;

	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (uint64_t x = 1; x;) {
		x = run("./first.so", "plugin_first", x);
		if (x)
			x = run("./second.so", "plugin_second", x);
	}
	return 1;
}
