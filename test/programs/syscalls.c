//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Nearly all of the time is spent in the kernel, clearing pages for reads of
// /dev/zero. The system call is made here, not by libc, whose wrapper has no
// frame of its own and would hide its caller from a walk by frame pointer.
//
// build: -O2
// expect: main;run;sys_read 100
// expect: vfs_read_[k] >90

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

#define NOINLINE __attribute__((noinline, noclone))

static char buffer[1 << 20];

#if defined(__x86_64__)
static NOINLINE long sys_read(long fd, void *to, long size)
{
	volatile long call = SYS_read; // gives the function a frame: see split.c
	long n = call;

	__asm__ volatile("syscall" : "+a"(n) : "D"(fd), "S"(to), "d"(size) : "rcx", "r11", "memory");
	return n;
}
#elif defined(__aarch64__)
static NOINLINE long sys_read(long fd, void *to, long size)
{
	register long x0 __asm__("x0") = fd;
	register void *x1 __asm__("x1") = to;
	register long x2 __asm__("x2") = size;
	volatile long call = SYS_read; // gives the function a frame: see split.c
	register long x8 __asm__("x8") = call;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
	return x0;
}
#endif

static NOINLINE long run(int fd)
{
	long n = 0;

	for (int i = 0; i < 16; i++)
		n += sys_read(fd, buffer, sizeof(buffer));
	return n;
}

int main(void)
{
	int fd = open("/dev/zero", O_RDONLY);

	puts("ready");
	fflush(stdout);
	while (run(fd) > 0) // a read that a signal cuts short is as good
		;
	perror("read");
	return 1;
}
