// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// perfChildren are targets of the tests of Perf.
var perfChildren = map[string]func(){
	"shares":  shares,
	"births":  births,
	"renames": renames,
	"deep":    func() { deep(300) },
	"calls":   calls,
}

// What is sampled is not what the race detector makes of it: calls of its own in
// each function, which has no frame pointers.
//
//go:noinline
//go:norace
func hot() { middle(30) }

//go:noinline
//go:norace
func warm() { middle(10) }

// middle is what a walk by frame pointer misses: the caller of a leaf that has
// no frame.
//
//go:noinline
//go:norace
func middle(n int) {
	work(n)
	sink++
}

//go:noinline
//go:norace
func work(n int) {
	for range n * 10_000 {
		sink++
	}
	sink++ // no tail call
}

func shares() {
	ready()
	for {
		hot()
		warm()
	}
}

// births has threads that live for some milliseconds, one after the other.
func births() {
	ready()
	for {
		done := make(chan bool)
		go func() {
			runtime.LockOSThread() // it ends with the goroutine
			work(300)
			close(done)
		}()
		<-done
	}
}

func renames() {
	runtime.LockOSThread()
	ready()
	for {
		for _, name := range []string{"morning", "evening"} {
			if err := os.WriteFile("/proc/thread-self/comm", []byte(name), 0); err != nil {
				panic(err)
			}
			work(1000)
		}
	}
}

//go:noinline
//go:norace
func deep(n int) {
	if n > 0 {
		deep(n - 1)
	} else {
		ready()
	}
	for n == 0 {
		sink++
	}
	sink++
}

//go:norace
func calls() {
	ready()
	for {
		unix.Getpgid(0)
	}
}
