//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Runs machine code that it made itself, and says so in a perf map: half of the
// time in one function, half in another. Each letter on standard input does
// something:
//
//	t  another function takes the place of the second
//	n  names are added for what has none: see the argument
//	x  removes the map and exits
//	f  goes on in a child, which has no map of its own
//
// With an argument the map begins without the first function. With the
// argument "memfd" the code is in memory with a name.
//
// build: -O2
// expect: main;run;first function 50
// expect: main;run;second 50

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void function(void);

static uint8_t *code;
static FILE *map;
static char path[64];

// A function that counts to 20,000, with a frame of its own.
static function *compile(uint8_t *at)
{
#if defined(__x86_64__)
	static const uint8_t body[] = {
		0x55,                         // push rbp
		0x48, 0x89, 0xe5,             // mov rbp, rsp
		0xb9, 0x20, 0x4e, 0x00, 0x00, // mov ecx, 20000
		0xff, 0xc9,                   // dec ecx
		0x75, 0xfc,                   // jnz to it
		0x5d,                         // pop rbp
		0xc3,                         // ret
	};
#elif defined(__aarch64__)
	static const uint32_t body[] = {
		0xa9bf7bfd, // stp x29, x30, [sp, #-16]!
		0x910003fd, // mov x29, sp
		0x5289c401, // mov w1, #20000
		0x71000421, // subs w1, w1, #1
		0x54ffffe1, // b.ne to it
		0xa8c17bfd, // ldp x29, x30, [sp], #16
		0xd65f03c0, // ret
	};
#endif
	memcpy(at, body, sizeof body);
	__builtin___clear_cache((char *)at, (char *)at + sizeof body);
	return (function *)(void *)at;
}

static void name(uint8_t *at, const char *what)
{
	fprintf(map, "%lx %x %s\n", (unsigned long)(uintptr_t)at, 32, what);
	fflush(map);
}

static __attribute__((noinline, noclone)) void run(function *a, function *b)
{
	for (int i = 0; i < 50; i++) {
		a();
		b();
		__asm__ volatile("");
	}
}

static int obey(void)
{
	char letter;

	if (read(0, &letter, 1) != 1)
		return 1;
	switch (letter) {
	case 't':
		name(code + 64, "third");
		break;
	case 'n':
		name(code, "first function");
		break;
	case 'x':
		unlink(path);
		_exit(0);
	case 'f':
		if (fork() == 0) {
			close(0);
			return 0;
		}
		wait(NULL);
	}
	return 1;
}

int main(int argc, char **argv)
{
	int memfd = argc > 1 && !strcmp(argv[1], "memfd");

	if (memfd) {
		int fd = memfd_create("compiler", 0);
		if (fd < 0 || ftruncate(fd, 4096))
			return 1;
		code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	} else {
		code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	if (code == MAP_FAILED || !(map = fopen(path, "w")))
		return 1;
	function *a = compile(code), *b = compile(code + 64);
	if (argc == 1 || memfd)
		name(code, "first function");
	name(code + 64, "second");
	puts("ready");
	fflush(stdout);
	for (struct pollfd in = {.fd = 0, .events = POLLIN};;) {
		if (in.fd == 0 && poll(&in, 1, 0) > 0 && !obey())
			in.fd = -1;
		run(a, b);
	}
}
