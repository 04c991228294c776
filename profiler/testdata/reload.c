// SPDX-License-Identifier: Apache-2.0

// Loads and unloads its arguments, two libraries, in turns. The thread is named
// after the one that works: so a sample tells which it was. At the end of the
// first round it says whether both were at the same address.

#include <dlfcn.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	void *where[2] = {0, 0};

	for (unsigned long round = 0;; round++) {
		for (int i = 0; i < 2; i++) {
			void *library = dlopen(argv[1 + i], RTLD_NOW);
			unsigned long (*work)(unsigned long) = library ? dlsym(library, "work") : 0;

			if (argc < 3 || !work)
				return 1;
			where[i] = (void *)work;
			prctl(PR_SET_NAME, i ? "in_b" : "in_a");
			for (double end = now() + 0.03; now() < end;)
				work(round);
			prctl(PR_SET_NAME, "between");
			dlclose(library);
		}
		if (round == 0) {
			puts(where[0] == where[1] ? "ready: same address" : "ready: other address");
			fflush(stdout);
		}
	}
}
