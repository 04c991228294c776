// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"hash/maphash"
	"slices"
)

// Builder collects counted stacks into a Profile while sampling goes on.
// Equal stacks of one thread are merged. It is not safe for concurrent use.
//
// A long session sees the same few thousand addresses over and over, and
// stacks that differ only near the leaf; so a stack is kept as 4-byte
// AddressIDs in large shared blocks, and found again by a 64-bit hash that is
// always confirmed by comparing. The price: a stack that occurs once costs
// its whole depth, 4 bytes a frame.
type Builder struct {
	p         Profile
	addresses map[addressKey]AddressID
	samples   map[uint64][]int32 // hash → indices of samples that have it
	seed      maphash.Seed
	stacks    blocks
	scratch   []byte
}

type addressKey struct {
	addr    Addr
	mapping MappingID
	ret     bool
}

// NewBuilder returns an empty Builder.
func NewBuilder() *Builder {
	return &Builder{
		addresses: map[addressKey]AddressID{},
		samples:   map[uint64][]int32{},
		seed:      maphash.MakeSeed(),
	}
}

// Mapping adds a mapping and returns its ID. The caller adds each one once.
func (b *Builder) Mapping(m Mapping) MappingID {
	b.p.Mappings = append(b.p.Mappings, m)
	return MappingID(len(b.p.Mappings) - 1)
}

// Address returns the ID of an address, adding it when new.
func (b *Builder) Address(a Addr, m MappingID, isReturn bool) AddressID {
	k := addressKey{a, m, isReturn}
	id, ok := b.addresses[k]
	if !ok {
		id = AddressID(len(b.p.Addresses))
		b.addresses[k] = id
		b.p.Addresses = append(b.p.Addresses, Address{Addr: a, Mapping: m, Return: isReturn})
	}
	return id
}

// Add counts n samples of a stack, given leaf first. The ids are copied.
func (b *Builder) Add(t Thread, ids []AddressID, truncated bool, n uint64) {
	h := b.hash(t, ids, truncated)
	for _, i := range b.samples[h] {
		s := &b.p.Samples[i]
		if s.Thread == t && s.Truncated == truncated && slices.Equal(s.Addresses, ids) {
			s.Count += n
			return
		}
	}
	b.samples[h] = append(b.samples[h], int32(len(b.p.Samples)))
	b.p.Samples = append(b.p.Samples, Sample{Thread: t, Addresses: b.stacks.keep(ids), Truncated: truncated, Count: n})
}

// blocks keeps stacks in large shared pieces of memory.
type blocks struct {
	free []AddressID // the unused rest of the newest block
}

func (b *blocks) keep(ids []AddressID) []AddressID {
	const blockSize = 16 << 10
	if len(ids) > len(b.free) {
		b.free = make([]AddressID, max(blockSize, len(ids)))
	}
	kept := b.free[:len(ids):len(ids)]
	b.free = b.free[len(ids):]
	copy(kept, ids)
	return kept
}

func (b *Builder) hash(t Thread, ids []AddressID, truncated bool) uint64 {
	s := b.scratch[:0]
	put := func(v uint32) { s = append(s, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	put(uint32(t.PID))
	put(uint32(t.TID))
	if truncated {
		put(1)
	}
	for _, id := range ids {
		put(uint32(id))
	}
	s = append(s, t.Comm...)
	s = append(s, t.Host...)
	b.scratch = s
	return maphash.Bytes(b.seed, s)
}

// Profile returns what was collected so far. It shares the Builder's tables:
// use either of them, not both at once.
func (b *Builder) Profile() *Profile { return &b.p }
