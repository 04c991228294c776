// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// The format demands no order of fields, but of strings and of types among each other; lists
// may be packed or not; IDs may be any. What is read is what pprof reads.
func TestReadAnyOrder(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		var plain bytes.Buffer
		if err := writeUncompressed(&plain, p); err != nil {
			t.Fatal(err)
		}
		var ordered, others [][]byte
		err := eachField(plain.Bytes(), func(f field) error {
			var m message
			switch {
			case f.wire == wireVarint:
				m.varint(int(f.number), f.value)
			case f.number == fieldSample:
				m.put(fieldSample, spread(t, f.content))
			default:
				m.put(int(f.number), f.content)
			}
			if f.number == fieldString || f.number == fieldSampleType {
				ordered = append(ordered, m)
			} else {
				others = append(others, m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(others)
		data := bytes.Join(slices.Concat(others, ordered), nil)
		other, err := pb.ParseUncompressed(data)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range other.Location {
			l.ID = uint64(i)<<40 | 7
		}
		for i, f := range other.Function {
			f.ID = uint64(2*len(other.Function) - i)
		}
		var renumbered bytes.Buffer
		if err := other.WriteUncompressed(&renumbered); err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{data, renumbered.Bytes()} {
			got := read(t, data)
			if d := cmp.Diff(summary(t, parsed(t, data)), summary(t, parsed(t, written(t, got)))); d != "" {
				t.Errorf("-pprof +ours:\n%s", d)
			}
			if d := cmp.Diff(read(t, plain.Bytes()).Meta, got.Meta); d != "" {
				t.Errorf("metadata, -in order +in another: %s", d)
			}
		}
	})
}

// spread writes a message's lists number by number.
func spread(t *testing.T, content []byte) (m message) {
	t.Helper()
	err := eachField(content, func(f field) error {
		if f.number != sampleLocation && f.number != sampleValue {
			m.put(int(f.number), f.content)
			return nil
		}
		return f.eachNumber(func(v uint64) error {
			m = append(m, byte(f.number)<<3)
			m.add(v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
