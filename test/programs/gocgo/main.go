// SPDX-License-Identifier: Apache-2.0

// Command gocgo calls from Go into C; with an argument, from there back into Go,
// and into Go from a thread that C made. It begins when a byte comes on standard
// input.
//
// build: -trimpath
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main._Cfunc_c_first;runtime.cgocall;runtime.asmcgocall;_cgo_*;c_first;c_second;c_spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.inner;main.spin
// also: runtime.goexit;main.main.gowrap1;main.worker|main.run;main._Cfunc_c_back;runtime.cgocall;runtime.asmcgocall;_cgo_*;c_back;goWork;crosscall2;runtime.cgocallback;runtime.cgocallbackg{1,2};runtime.cgocallbackg1;_cgoexp_*;main.goWork;main.inner;main.spin
// also: (clone);(thread);c_thread|goWork;crosscall2;runtime.cgocallback;runtime.cgocallbackg{1,2};runtime.cgocallbackg1;_cgoexp_*;main.goWork;main.inner;main.spin
// also: runtime.goexit;runtime.main|main.main;...
// also: runtime.morestack|...
// also: runtime.mcall|...
// also: runtime.mstart|...
package main

/*
#include <stdint.h>

uint64_t c_first(uint64_t x);
uint64_t c_back(uint64_t x);
int c_start(void);
*/
import "C"

import (
	"fmt"
	"os"
)

// Some 10 µs: see gocalls.
//
//go:noinline
func spin(x uint64) uint64 {
	for range 8000 {
		x = x*6364136223846793005 + 1
	}
	return x
}

//go:noinline
func inner(x uint64) uint64 { return spin(x) ^ 1 }

//go:noinline
//export goWork
func goWork(x uint64) uint64 {
	for range 5 {
		x = inner(x) ^ 2
	}
	return x
}

//go:noinline
func run(x uint64) uint64 {
	x += uint64(C.c_first(C.uint64_t(x)))
	if back {
		x += uint64(C.c_back(C.uint64_t(x)))
	}
	return x + inner(x)
}

// back says that C is to call Go.
var back = len(os.Args) > 1

//go:noinline
func worker(x uint64) {
	for {
		x = run(x)
	}
}

func main() {
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(1)
	}
	go worker(1)
	if back && C.c_start() != 0 {
		os.Exit(1)
	}
	select {}
}
