// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/object"
)

// inflated is the content of a compressed section. It is inflated from the
// front, as far as it is needed and once, since there is no way to begin in
// the middle. What has been inflated is kept: small sections in memory, others
// in a file without a name, whose pages the kernel may write out and take back.
//
// The price of a compressed section is inflating all that is before what is
// wanted, at some 200 MB/s, and room for it on the disk of the temporary
// directory. Where no file can be made there, the room is in memory.
type inflated struct {
	name   string
	size   int64 // as the header says
	open   func() (io.Reader, error)
	budget *budget

	stream io.Reader
	close  func()
	have   int64
	memory []byte
	file   *os.File
	err    error
}

const (
	// Sections up to this size are kept in memory, in bytes.
	maxInMemory = 1 << 20
	// All sections of one Data together may have this many bytes. Of programs
	// of 100 MB with all their debug information it is some 150 MB.
	maxInflated = 1 << 30
	// No section of debug information is known to have shrunk to less than a
	// fiftieth.
	maxRatio = 500
	// workOfInflating is how many bytes count as one unit of work.
	workOfInflating = 32
)

// chdrSize is the size of Elf64_Chdr (gABI chapter 4, "Section Compression"):
// type, reserved, size, alignment.
const chdrSize = 24

// zstandard is ELFCOMPRESS_ZSTD.
const zstandard = 2

// compressed opens a section that says it is compressed.
func (f *file) compressed(s *object.Section) (*section, error) {
	h := plain(s).at(0, chdrSize)
	if len(h) < chdrSize {
		return nil, fmt.Errorf("header of compressed %s: %w", s.Name, ErrFormat)
	}
	content := plain(s).part(chdrSize, uint64(s.FileSize-chdrSize))
	switch kind := le.Uint32(h); kind {
	case uint32(elf.COMPRESS_ZLIB):
		return f.inflate(content, le.Uint64(h[8:]), openZlib)
	case zstandard:
		return f.inflate(content, le.Uint64(h[8:]), openZstd)
	default:
		return nil, fmt.Errorf("%s is compressed in a way of number %d: %w", s.Name, kind, errors.ErrUnsupported)
	}
}

// oldCompressed opens a section as GNU's tools compressed them before the gABI
// had a way to: .zdebug_info and so on, "ZLIB" and a big-endian size.
func (f *file) oldCompressed(s *object.Section) (*section, error) {
	h := plain(s).at(0, 12)
	if len(h) < 12 || string(h[:4]) != "ZLIB" {
		return nil, fmt.Errorf("header of compressed %s: %w", s.Name, ErrFormat)
	}
	return f.inflate(plain(s).part(12, uint64(s.FileSize-12)), binary.BigEndian.Uint64(h[4:]), openZlib)
}

func (f *file) inflate(content *section, size uint64, open func(r *bufio.Reader) (io.Reader, func(), error)) (*section, error) {
	if content == nil || size > uint64(maxInflated-f.data.inflated) || size/maxRatio > uint64(content.size) {
		return nil, fmt.Errorf("compressed section of %d bytes: %w", size, ErrFormat)
	}
	f.inflated += int64(size)
	f.data.inflated += int64(size)
	x := &inflated{name: content.name, size: int64(size), budget: f.budget}
	x.open = func() (r io.Reader, err error) {
		r, x.close, err = open(bufio.NewReaderSize(io.NewSectionReader(content.source, content.start, content.size), 64<<10))
		return r, err
	}
	f.own(x)
	return &section{name: content.name, source: x, size: x.size}, nil
}

func openZlib(r *bufio.Reader) (io.Reader, func(), error) {
	z, err := zlib.NewReader(r)
	return z, func() {}, err
}

// maxWindow is how far back zstandard may refer, in bytes, which is the memory
// it takes. Up to level 19 its compressors use no more.
const maxWindow = 8 << 20

func openZstd(r *bufio.Reader) (io.Reader, func(), error) {
	frame, err := smallWindow(r)
	if err != nil {
		return nil, nil, err
	}
	z, err := zstd.NewReader(frame, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxInflated))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}

// smallWindow changes the header of a frame that was compressed in one go
// (RFC 8878, 3.1.1.1). Such a frame declares all of its content as the window,
// so that decoders hold all of it, though the compressor looked back no further
// than its level has it. Where it did, the decoder gives an error.
func smallWindow(r *bufio.Reader) (io.Reader, error) {
	h, err := r.Peek(5) // magic number, descriptor
	if err != nil {
		return nil, err
	}
	const singleSegment, sizeFlag, dictionary = 0x20, 0xc0, 0x03
	descriptor := h[4]
	if descriptor&singleSegment == 0 || descriptor&sizeFlag < 0x80 || descriptor&dictionary != 0 {
		return r, nil
	}
	if h, err = r.Peek(9); err != nil { // the size has 4 bytes or 8
		return nil, err
	}
	if descriptor&sizeFlag == 0x80 && le.Uint32(h[5:]) <= maxWindow {
		return r, nil
	}
	const window = 13 << 3 // as an exponent: 2^(10+13), which is maxWindow
	start := []byte{h[0], h[1], h[2], h[3], descriptor &^ singleSegment, window}
	if _, err := r.Discard(5); err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(start), r), nil
}

// ReadAt makes inflated an io.ReaderAt.
func (x *inflated) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= x.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > x.size-off
	if short {
		p = p[:x.size-off]
	}
	if err := x.reach(off + int64(len(p))); err != nil {
		return 0, err
	}
	if x.file != nil {
		if n, err := x.file.ReadAt(p, off); n < len(p) {
			return n, err
		}
	} else {
		copy(p, x.memory[off:])
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// reach inflates until there are limit bytes.
func (x *inflated) reach(limit int64) error {
	if x.have >= limit {
		return nil
	}
	if x.err != nil {
		return x.err
	}
	if x.err = x.more(limit); x.err != nil {
		x.err = fmt.Errorf("inflate %s: %w", x.name, x.err)
		x.stop()
	} else if x.have == x.size {
		x.stop()
	}
	return x.err
}

func (x *inflated) more(limit int64) (err error) {
	if x.stream == nil {
		if err := x.room(); err != nil {
			return err
		}
		if x.stream, err = x.open(); err != nil {
			return err
		}
	}
	if x.file == nil {
		n, err := io.ReadFull(x.stream, x.memory[x.have:limit])
		x.have += int64(n)
		x.budget.spend(n / workOfInflating)
		return err
	}
	b := make([]byte, 64<<10)
	for x.have < limit {
		n, err := io.ReadFull(x.stream, b[:min(int64(len(b)), x.size-x.have)])
		if err != nil {
			return err
		}
		if _, err := x.file.WriteAt(b[:n], x.have); err != nil {
			return err
		}
		x.have += int64(n)
		if !x.budget.spend(n / workOfInflating) {
			return ErrBudget
		}
	}
	return nil
}

// room makes the place for what is inflated.
func (x *inflated) room() (err error) {
	if x.size <= maxInMemory {
		x.memory = make([]byte, x.size)
		return nil
	}
	fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil { // no such directory, or a file system that cannot do that
		fd, err = unix.MemfdCreate("inflated", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return err
	}
	x.file = os.NewFile(uintptr(fd), "inflated "+x.name)
	return nil
}

// stop gives back what inflating takes, but keeps what was inflated.
func (x *inflated) stop() {
	if x.stream != nil {
		x.close()
		x.stream = nil
	}
}

// Close gives back everything.
func (x *inflated) Close() error {
	x.stop()
	x.memory, x.err = nil, os.ErrClosed
	x.have = 0
	if x.file != nil {
		return x.file.Close()
	}
	return nil
}
