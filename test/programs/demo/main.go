// SPDX-License-Identifier: Apache-2.0

// Command demo is what make demo records: a small web shop that has no visitors
// but is busy, with functions whose shares are known.
//
// build: -trimpath
// expect: main.serve;main.checkout;main.priceCart;main.applyDiscounts 35
// expect: main.serve;main.checkout;main.priceCart;main.convertCurrency 10
// expect: main.serve;main.checkout;main.reserveStock 10
// expect: main.serve;main.search;main.tokenize 5
// expect: main.serve;main.search;main.rankResults;main.scoreItem 20
// expect: main.serve;main.render;main.escapeHTML 15
// expect: main.serve;main.logRequest 5
package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
)

// steps is a share of one percent of a request, some 15 µs. Each function works
// through its own number of them: a chain of multiplications that costs the
// same wherever it stands.
const steps = 10_000

// frame is called so that its caller is no leaf: Go gives leaves no frame,
// without which a walk by frame pointer would miss their callers.
//
//go:noinline
func frame() {}

//go:noinline
func applyDiscounts(x uint64) uint64 {
	frame()
	for range 35 * steps {
		x = x*6364136223846793005 + 1
	}
	return x
}

//go:noinline
func convertCurrency(x uint64) uint64 {
	frame()
	for range 10 * steps {
		x = x*2862933555777941757 + 1
	}
	return x
}

//go:noinline
func reserveStock(x uint64) uint64 {
	frame()
	for range 10 * steps {
		x = x*3202034522624059733 + 1
	}
	return x
}

//go:noinline
func tokenize(x uint64) uint64 {
	frame()
	for range 5 * steps {
		x = x*3935559000370003845 + 1
	}
	return x
}

//go:noinline
func scoreItem(x uint64) uint64 {
	frame()
	for range steps {
		x = x*4298728350962399697 + 1
	}
	return x
}

//go:noinline
func escapeHTML(x uint64) uint64 {
	frame()
	for range 15 * steps {
		x = x*2685821657736338717 + 1
	}
	return x
}

//go:noinline
func logRequest(x uint64) uint64 {
	frame()
	for range 5 * steps {
		x = x*1181783497276652981 + 1
	}
	return x
}

//go:noinline
func priceCart(x uint64) uint64 { return convertCurrency(applyDiscounts(x)) }

//go:noinline
func checkout(x uint64) uint64 { return reserveStock(priceCart(x)) }

//go:noinline
func rankResults(x uint64) uint64 {
	for range 20 {
		x = scoreItem(x)
	}
	return x
}

//go:noinline
func search(x uint64) uint64 { return rankResults(tokenize(x)) }

//go:noinline
func render(x uint64) uint64 { return escapeHTML(x) }

// serve answers requests. What it does first differs from request to request,
// so that sampling cannot run in step with it.
func serve() {
	parts := []func(uint64) uint64{checkout, search, render, logRequest}
	for x := uint64(1); ; {
		rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for _, part := range parts {
			x = part(x)
		}
		runtime.Gosched()
	}
}

func main() {
	for range 3 {
		go serve()
	}
	fmt.Println("ready")
	serve()
}
