// SPDX-License-Identifier: Apache-2.0

// Command goroutines spends its time in 1,000 goroutines on all CPUs, 60 : 30 :
// 10 in three functions, one of them a method with a pointer receiver, one a
// closure.
//
// build: -trimpath
// expect: main.work;main.run;main.hotA 60
// expect: main.work;main.run;main.(*shop).price 30
// expect: main.work;main.run;main.work.func1 10
package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
)

// A unit of work is some 150 µs: see split.c. It is larger than there, so that
// changing goroutines costs next to nothing beside it.
const steps = 100_000

// frame is called so that its caller is no leaf: Go gives leaves no frame,
// without which a walk by frame pointer would miss their callers.
//
//go:noinline
func frame() {}

//go:noinline
func hotA(x uint64) uint64 {
	frame()
	for range steps {
		x = x*6364136223846793005 + 1
	}
	return x
}

type shop struct{ first uint64 }

//go:noinline
func (s *shop) price(x uint64) uint64 {
	frame()
	x += s.first
	for range steps {
		x = x*2862933555777941757 + 1
	}
	return x
}

// order is which function does the next unit, whichever goroutine asks: the
// shares are exact, however goroutines are scheduled.
var (
	order [1000]uint8
	next  atomic.Uint64
	sink  atomic.Uint64
)

//go:noinline
func run(s *shop, last func(uint64) uint64, x uint64) uint64 {
	switch order[next.Add(1)%uint64(len(order))] {
	case 0:
		return hotA(x)
	case 1:
		return s.price(x)
	}
	return last(x)
}

func work() {
	s := &shop{1}
	last := func(x uint64) uint64 {
		frame()
		for range steps {
			x = x*3202034522624059733 + 1
		}
		return x
	}
	for x := uint64(1); ; {
		x = run(s, last, x)
		sink.Store(x)
		runtime.Gosched()
	}
}

func main() {
	for i := range order {
		switch {
		case i%10 < 6:
			order[i] = 0
		case i%10 < 9:
			order[i] = 1
		default:
			order[i] = 2
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for range 1000 {
		go work()
	}
	fmt.Println("ready")
	select {}
}
