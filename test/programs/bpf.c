//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Sends messages through a filter that is a BPF program, long and with a name,
// which throws them away. Needs root.
//
// build: -O2

#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LENGTH 4000 // instructions: what all kernels take

int main(void)
{
	static struct bpf_insn program[LENGTH];
	int ends[2];
	char message = 0;

	for (int i = 0; i < LENGTH; i++) // r0 *= 7
		program[i] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MUL | BPF_K, .dst_reg = 0, .imm = 7};
	program[0] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1};
	program[LENGTH - 2] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0};
	program[LENGTH - 1] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
	union bpf_attr load;
	memset(&load, 0, sizeof load);
	load.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	load.insn_cnt = LENGTH;
	load.insns = (uint64_t)(uintptr_t)program;
	load.license = (uint64_t)(uintptr_t)"GPL";
	memcpy(load.prog_name, "long_filter", 12);
	int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	if (fd < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) ||
	    setsockopt(ends[1], SOL_SOCKET, SO_ATTACH_BPF, &fd, sizeof fd)) {
		perror("bpf");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		if (write(ends[0], &message, 1) < 0)
			return 1;
}
