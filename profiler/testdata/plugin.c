// SPDX-License-Identifier: Apache-2.0

// A library of three functions; NAME and FRAME make another of it, with the
// same code at the same addresses but for the size of its frames.

#define GLUE(a, b) a##b
#define NAMED(a, b) GLUE(a, b)
#define NOINLINE __attribute__((noinline, noclone))

static NOINLINE unsigned long NAMED(leaf_, NAME)(unsigned long x)
{
	volatile unsigned long frame[FRAME];

	frame[0] = x;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x + frame[0];
}

NOINLINE unsigned long NAMED(middle_, NAME)(unsigned long x)
{
	volatile unsigned long frame[FRAME];

	frame[0] = x;
	return NAMED(leaf_, NAME)(x) + frame[0];
}

unsigned long work(unsigned long x)
{
	volatile unsigned long frame[FRAME];

	frame[0] = x;
	return NAMED(middle_, NAME)(x) + frame[0];
}
