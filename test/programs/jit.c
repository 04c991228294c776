//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// What a JIT compiler does: machine code written at run time, with frame
// pointers and no unwind table, calls C code that was built without frame
// pointers, which calls machine code again. It begins when a byte comes on
// standard input.
//
// build: -O2
// stack: (start);main|run;[anonymous];callback;spin
// stack: (start);main|run;[anonymous];[anonymous];[anonymous];callback;spin
// stack: (start);main|run;[anonymous];again;[anonymous];callback;spin

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

typedef uint64_t function(uint64_t);

static volatile uint64_t sink;
static uint8_t *code; // one page, the next free byte
static function *plain, *nested, *outer;

static NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 8000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE uint64_t callback(uint64_t x)
{
	sink = spin(x);
	return sink ^ 1;
}

static NOINLINE uint64_t again(uint64_t x)
{
	sink = plain(x);
	return sink ^ 2;
}

// A function that calls another, and works on what it returned.
static function *compile(function *callee)
{
	uint8_t *start = code;
#if defined(__x86_64__)
	static const uint8_t before[] = {
		0x55,                   // push rbp
		0x48, 0x89, 0xe5,       // mov rbp, rsp
		0x48, 0x83, 0xec, 0x20, // sub rsp, 32
		0x48, 0xb8,             // mov rax, callee
	}, after[] = {
		0xff, 0xd0,             // call rax
		0x48, 0x83, 0xf0, 0x07, // xor rax, 7
		0xc9,                   // leave
		0xc3,                   // ret
	};
	memcpy(code, before, sizeof before);
	memcpy(code + sizeof before, &callee, 8);
	memcpy(code + sizeof before + 8, after, sizeof after);
	code += sizeof before + 8 + sizeof after;
#elif defined(__aarch64__)
	static const uint32_t before[] = {
		0xa9be7bfd, // stp x29, x30, [sp, #-32]!
		0x910003fd, // mov x29, sp
		0x580000a1, // ldr x1, callee
		0xd63f0020, // blr x1
		0xd2400800, // eor x0, x0, #7
		0xa8c27bfd, // ldp x29, x30, [sp], #32
		0xd65f03c0, // ret
	};
	memcpy(code, before, sizeof before);
	memcpy(code + sizeof before, &callee, 8);
	code += sizeof before + 8;
#endif
	code += -(uintptr_t)code & 15;
	return (function *)(void *)start;
}

static NOINLINE uint64_t run(uint64_t x)
{
	x = plain(x);
	x += nested(x);
	return x + outer(x);
}

int main(void)
{
	char byte;

	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return 1;
	uint8_t *page = code;
	plain = compile(callback);
	nested = compile(compile(plain));
	outer = compile(again);
	__builtin___clear_cache((char *)page, (char *)page + 4096);
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (volatile uint64_t x = 1;;)
		x = run(x);
}
