//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// C++ that throws exceptions most of the time, so that samples are taken while
// the run-time library unwinds: in its search, its clean-up phase, destructors
// that run in between, and handlers. Further callbacks by virtual functions,
// std::function and std::sort. It begins when a byte comes on standard input.
//
// build: -O2
// stack: (start);main|run;(anonymous namespace)::catcher;(anonymous namespace)::guarded{5};(anonymous namespace)::thrower;(runtime);...
// stack: (start);main|run;(anonymous namespace)::catcher;(anonymous namespace)::guarded{1,5};_Unwind_Resume;...
// stack: (start);main|run;(anonymous namespace)::catcher;(anonymous namespace)::guarded{1,5};(anonymous namespace)::Guard::~Guard;spin
// also: (start);main|run;(anonymous namespace)::catcher;(runtime);...
// stack: (start);main|run;(anonymous namespace)::catcher;spin
// stack: (start);main|run;virtuals;Square::area;spin
// also: (start);main|run;virtuals;Circle::area
// stack: (start);main|run;sorts;std::*{1,12};spin
// also: (start);main|run;sorts;std::*{1,12};(libc){1,4}

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

// Some 2 µs: a chain in which each multiplication waits for the one before.
NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 1500; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

namespace {

struct Guard {
	uint64_t x;
	NOINLINE ~Guard()
	{
		sink = spin(x);
		sink = sink ^ 1;
	}
};

NOINLINE uint64_t thrower(uint64_t x)
{
	if (x != 0)
		throw std::runtime_error("thrown");
	return sink;
}

NOINLINE uint64_t guarded(int frames, uint64_t x)
{
	Guard g{x};

	sink = frames > 1 ? guarded(frames - 1, x) : thrower(x);
	return sink ^ 1;
}

NOINLINE uint64_t catcher(uint64_t x)
{
	try {
		sink = guarded(5, x | 1);
	} catch (const std::exception &e) {
		sink = spin(x) + e.what()[0];
	}
	return sink;
}

} // namespace

struct Shape {
	virtual uint64_t area(uint64_t x) const = 0;
};

struct Square : Shape {
	NOINLINE uint64_t area(uint64_t x) const override
	{
		sink = spin(x);
		return sink ^ 2;
	}
};

struct Circle : Shape {
	NOINLINE uint64_t area(uint64_t x) const override
	{
		sink = x;
		return sink ^ 3;
	}
};

NOINLINE uint64_t virtuals(const Shape &s, uint64_t x)
{
	sink = s.area(x);
	return sink ^ 1;
}

NOINLINE uint64_t sorts(uint64_t x)
{
	uint64_t values[20];

	for (auto &v : values)
		v = x = x * 6364136223846793005u + 1442695040888963407u;
	std::function<bool(uint64_t, uint64_t)> less = [](uint64_t a, uint64_t b) {
		sink = spin(a);
		return a < b;
	};
	std::sort(values, values + 20, less);
	return values[x & 15];
}

NOINLINE uint64_t run(uint64_t x)
{
	static const Square square;
	static const Circle circle;

	for (int i = 0; i < 20; i++)
		x += catcher(x);
	for (int i = 0; i < 20; i++)
		x += virtuals(x & 1 << 14 ? static_cast<const Shape &>(circle) : square, x);
	return x + sorts(x);
}

int main()
{
	char byte;

	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (volatile uint64_t x = 1;;)
		x = run(x);
}
