//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// The split of split.c in names that need demangling: namespaces, a template, an
// overloaded method, an anonymous namespace, an operator, a lambda.
//
// Parameters are no part of a shown name, so the overloads add up.
//
// build: -O2 -std=c++17
// expect: main;shop::Cart::run;shop::Cart::price 50
// expect: main;shop::Cart::run;shop::total<...> 20
// expect: main;shop::Cart::run;shop::operator+ 10
// expect: main;shop::Cart::run;shop::(anonymous namespace)::hidden 10
// expect: main;shop::Cart::run;shop::Cart::run::{lambda#1}::operator() 10

#include <cstdint>
#include <cstdio>
#include <utility>

#define NOINLINE __attribute__((noinline, noclone))

namespace shop {

// One unit of work: see split.c.
template <uint64_t multiplier> inline __attribute__((always_inline)) uint64_t work(uint64_t x)
{
	volatile uint64_t first = x;
	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * multiplier + 1;
	return x;
}

template <typename T> struct Item {
	T price;
};

template <typename T> NOINLINE uint64_t total(const T &item, uint64_t x)
{
	return work<6364136223846793005u>(x + item.price);
}

NOINLINE uint64_t operator+(const Item<int> &item, uint64_t x)
{
	return work<2862933555777941757u>(x + item.price);
}

namespace {
NOINLINE uint64_t hidden(uint64_t x)
{
	return work<3202034522624059733u>(x);
}
} // namespace

class Cart {
public:
	NOINLINE uint64_t price(int n, uint64_t x) const { return work<3935559000370003845u>(x + n + first); }
	NOINLINE uint64_t price(double n, uint64_t x) const { return work<4298728350962399697u>(x + (uint64_t)n + first); }
	NOINLINE uint64_t run(uint64_t x);

private:
	int first = 1;
	int units[10] = {0, 0, 0, 1, 1, 2, 2, 3, 4, 5};
};

uint64_t Cart::run(uint64_t x)
{
	Item<int> item{2};
	auto last = [](uint64_t y) NOINLINE { return work<2685821657736338717u>(y); };

	for (int i = 9; i > 0; i--) {
		std::swap(units[i], units[(x >> 33) % (i + 1)]);
		x = x * 6364136223846793005u + 1442695040888963407u;
	}
	for (int unit : units) {
		switch (unit) {
		case 0: x = price(1, x); break;
		case 1: x = price(1.0, x); break;
		case 2: x = total(item, x); break;
		case 3: x = item + x; break;
		case 4: x = hidden(x); break;
		default: x = last(x);
		}
	}
	return x;
}

} // namespace shop

int main()
{
	std::puts("ready");
	std::fflush(stdout);
	shop::Cart cart;
	for (volatile uint64_t x = 1;;)
		x = cart.run(x);
}
