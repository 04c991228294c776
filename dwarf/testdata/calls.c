// C, with functions inlined in other functions, a nested function (GCC's), and
// code that is split off as unlikely.
#include <stdio.h>
#include <stdlib.h>

struct list {
	struct list *next;
	int value;
};

static inline int square(int x) { return x * x; }
static inline int cube(int x) { return x * square(x); }
static int total(struct list *l)
{
	int s = 0;
	for (; l; l = l->next)
		s += cube(l->value);
	return s;
}

#ifndef __clang__
__attribute__((noinline)) static int nested(int x)
{
	__attribute__((noinline)) int inner(int y) { return y * x + cube(y); }
	int (*volatile f)(int) = inner;
	return f(x) + f(x + 1);
}
#else
#define nested(x) (x)
#endif

__attribute__((noinline)) static struct list *make(int n)
{
	struct list *l = NULL;
	while (n-- > 0) {
		struct list *e = malloc(sizeof *e);
		if (__builtin_expect(!e, 0)) {
			fprintf(stderr, "no memory for %d\n", n);
			abort();
		}
		*e = (struct list){l, n};
		l = e;
	}
	return l;
}

int main(int argc, char **argv)
{
	struct list *l = make(argc * 10);
	printf("%s %d %d\n", argv[0], total(l), nested(argc));
	return 0;
}
