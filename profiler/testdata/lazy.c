// SPDX-License-Identifier: Apache-2.0

// Loads its argument again and again, and calls it once: all its time goes to
// the dynamic linker.

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	puts("ready");
	fflush(stdout);
	for (;;) {
		char text[] = "42 abc";
		void *library = dlopen(argv[1], RTLD_LAZY);
		int (*call_all)(char *) = library ? dlsym(library, "call_all") : 0;

		if (argc < 2 || !call_all)
			return 1;
		call_all(text);
		dlclose(library);
	}
}
