// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // it is what passCodec stands before
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Raw is a message as it came, and as it goes on: byte by byte.
type Raw []byte

// passCodec is gRPC's codec of protobuf, which lets raw messages through.
type passCodec struct{ encoding.CodecV2 }

func newPassCodec() passCodec { return passCodec{encoding.GetCodecV2("proto")} }

// Marshal is of gRPC's interface, as the next one.
func (c passCodec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*Raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(*r)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c passCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*Raw); ok {
		*r = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Text is a field of text or bytes; of several, the last one counts. It is not
// known of what is no message.
func (r Raw) Text(field protowire.Number) (text string, known bool) {
	for rest := []byte(r); len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return "", false
		}
		if rest = rest[n:]; number == field && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(rest)
			if n < 0 {
				return "", false
			}
			text, rest = string(value), rest[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			return "", false
		}
		rest = rest[n:]
	}
	return text, true
}
