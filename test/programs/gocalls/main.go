// SPDX-License-Identifier: Apache-2.0

// Command gocalls shows the kinds of frames that Go makes, in turn, on several
// goroutines: plain calls, closures, methods behind an interface, deferred
// functions, panics, callbacks from the library, recursion of 400 frames on a
// stack that had to grow for it, and the runtime's own stack. It begins when a
// byte comes on standard input.
//
// build: -trimpath
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.first;main.second;main.third;main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.closure;main.call;main.closure.func1;main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.closure;main.closure.func1;main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.methods;main.(*square).area;main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.sorts;slices.*{1,8};main.sorts.func1;main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.deep{400};main.spin
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.recovers;main.fails;runtime.gopanic;main.recovers.func1;main.spin
// also: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.recovers;...
// also: runtime.goexit;runtime.main|main.main;...
// also: runtime.morestack|...
// also: runtime.mcall|...
// also: runtime.mstart|...
// stack: runtime.goexit;main.main.gowrap1;main.worker|main.run;main.traces;runtime.Stack;runtime.systemstack*;runtime.Stack.func1;...
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
)

// Some 10 µs: a chain in which each multiplication waits for the one before. Go
// gives such a leaf no frame.
//
//go:noinline
func spin(x uint64) uint64 {
	for range 8000 {
		x = x*6364136223846793005 + 1
	}
	return x
}

//go:noinline
func third(x uint64) uint64 { return spin(x) ^ 3 }

//go:noinline
func second(x uint64) uint64 { return third(x) ^ 2 }

//go:noinline
func first(x uint64) uint64 { return second(x) ^ 1 }

//go:noinline
func closure(x uint64) uint64 {
	f := func(y uint64) uint64 { return spin(x+y) ^ x }
	return call(f, x) ^ f(x)
}

//go:noinline
func call(f func(uint64) uint64, x uint64) uint64 { return f(x) ^ 7 }

type shape interface{ area(x uint64) uint64 }

type square struct{ side uint64 }

//go:noinline
func (s *square) area(x uint64) uint64 { return spin(x+s.side) ^ s.side }

type circle struct{ radius uint64 }

//go:noinline
func (c circle) area(x uint64) uint64 { return x + c.radius }

//go:noinline
func methods(shapes []shape, x uint64) uint64 {
	for _, s := range shapes {
		x += s.area(x)
	}
	return x
}

//go:noinline
func sorts(x uint64) uint64 {
	var values [12]uint64
	for i := range values {
		x = x*6364136223846793005 + 1442695040888963407
		values[i] = x
	}
	slices.SortFunc(values[:], func(a, b uint64) int {
		if spin(a) == 0 || a < b {
			return -1
		}
		return 1
	})
	return values[3]
}

//go:noinline
func deep(frames int, x uint64) uint64 {
	if frames > 1 {
		return deep(frames-1, x) ^ 1
	}
	for range 10 {
		x = spin(x)
	}
	return x ^ 1
}

//go:noinline
func fails(x uint64) uint64 {
	if x != 0 {
		panic(x)
	}
	return x + 1
}

//go:noinline
func recovers(x uint64) (y uint64) {
	defer func() {
		if r := recover(); r != nil {
			y = spin(r.(uint64))
		}
	}()
	return fails(x|1) ^ 1
}

//go:noinline
func traces(buf []byte) uint64 {
	return uint64(runtime.Stack(buf, false)) ^ 1
}

//go:noinline
func run(shapes []shape, buf []byte, x uint64) uint64 {
	for range 5 {
		x += first(x)
		x += closure(x)
		x += methods(shapes, x)
		x += recovers(x)
		x += traces(buf)
	}
	x += sorts(x)
	return deep(400, x) ^ 1
}

//go:noinline
func worker(x uint64) {
	shapes := []shape{&square{1}, circle{2}, &square{3}, &square{4}}
	buf := make([]byte, 4096)
	for {
		x = run(shapes, buf, x)
	}
}

func main() {
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(1)
	}
	for i := range 4 {
		go worker(uint64(i))
	}
	select {}
}
