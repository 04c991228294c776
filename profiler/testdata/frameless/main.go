// SPDX-License-Identifier: Apache-2.0

// Command frameless works in a function that has no frame, so that frame
// pointers say nothing of its caller: main.outer -> main.middle -> main.leaf.
package main

import "fmt"

//go:noinline
func leaf(x uint64) uint64 {
	for i := 0; i < 20000; i++ {
		x = x*6364136223846793005 + 1
	}
	return x
}

//go:noinline
func middle(x uint64) uint64 { return leaf(x) + 1 }

//go:noinline
func outer(x uint64) uint64 { return middle(x) + 1 }

func main() {
	fmt.Println("ready")
	for x := uint64(1); ; x++ {
		x = outer(x)
	}
}
