// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// overlap is how much of two distributions is the same: the sum over all
// functions of the smaller of both shares.
func overlap(a, b map[string]float64) float64 {
	n, m := sum(a), sum(b)
	var both float64
	for k, v := range a {
		both += min(v/n, b[k]/m)
	}
	return both
}

func sum(m map[string]float64) (n float64) {
	for _, v := range m {
		n += v
	}
	return n
}

// draws is how often chance is asked.
const draws = 100

// chance is the overlap to expect of two draws of these sizes from one
// distribution: both together, the best that is known of the true one. It is
// the sampling error: with many functions and few samples no two recordings of
// the same program agree, whoever makes them.
func chance(a, b map[string]float64) float64 {
	together := maps.Clone(a)
	for k, v := range b {
		together[k] += v
	}
	keys := slices.Sorted(maps.Keys(together))
	upTo := make([]float64, len(keys)) // cumulated
	var all float64
	for i, k := range keys {
		all += together[k]
		upTo[i] = all
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same figure for the same counts
	draw := func(n int) map[string]float64 {
		got := map[string]float64{}
		for range n {
			i, _ := slices.BinarySearch(upTo, random.Float64()*all)
			got[keys[min(i, len(keys)-1)]]++
		}
		return got
	}
	var total float64
	for range draws {
		total += overlap(draw(int(sum(a))), draw(int(sum(b))))
	}
	return total / draws
}
