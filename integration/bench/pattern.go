package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

// A file's content is made of pages. Each begins with the file's seed and its own number
// and goes on with random bytes, the same in every 256th page. So whoever reads can
// compare every byte at the speed of memory, and a page at the wrong place or of another
// file shows.
const (
	pageSize   = 4096
	headSize   = 16
	basePages  = 256
	patternLen = basePages * pageSize
)

// pattern makes and checks contents. It does not change.
type pattern struct{ base []byte }

func newPattern() *pattern {
	p := &pattern{base: make([]byte, patternLen)}
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(p.base) // never fails
	return p
}

// fill writes the content of file seed at off, a multiple of the page size, to buf.
func (p *pattern) fill(seed uint64, off int64, buf []byte) {
	for n := 0; n < len(buf); n += pageSize {
		number := uint64(off)/pageSize + uint64(n)/pageSize
		page := p.page(number)
		head := headOf(seed, number)
		copy(buf[n:min(n+headSize, len(buf))], head[:])
		if n+headSize < len(buf) {
			copy(buf[n+headSize:min(n+pageSize, len(buf))], page[headSize:])
		}
	}
}

// page is the common part of a page.
func (p *pattern) page(number uint64) []byte {
	at := number % basePages * pageSize
	return p.base[at : at+pageSize]
}

// headOf is the part of a page that it has for itself.
func headOf(seed, number uint64) (head [headSize]byte) {
	binary.LittleEndian.PutUint64(head[:], seed)
	binary.LittleEndian.PutUint64(head[8:], number)
	return head
}

// check compares what was read from file seed at off.
func (p *pattern) check(seed uint64, off int64, got []byte) error {
	for len(got) > 0 {
		number, skip := uint64(off)/pageSize, int(uint64(off)%pageSize)
		n := min(len(got), pageSize-skip)
		if !p.samePage(seed, number, skip, got[:n]) {
			return fmt.Errorf("wrong bytes between offsets %d and %d", off, off+int64(n))
		}
		got, off = got[n:], off+int64(n)
	}
	return nil
}

// samePage compares a part of one page, from byte skip of it on.
func (p *pattern) samePage(seed, number uint64, skip int, got []byte) bool {
	if skip < headSize {
		head := headOf(seed, number)
		n := min(len(got), headSize-skip)
		if !bytes.Equal(got[:n], head[skip:skip+n]) {
			return false
		}
		got, skip = got[n:], skip+n
	}
	return bytes.Equal(got, p.page(number)[skip:skip+len(got)])
}

// source is a file's content as a stream.
type source struct {
	p         *pattern
	seed      uint64
	off, size int64
}

// Read fills whole pages, so it wants a buffer of at least one page.
func (s *source) Read(buf []byte) (int, error) {
	n := int(min(int64(len(buf)), s.size-s.off))
	if n == 0 {
		return 0, io.EOF
	}
	if int64(n) < s.size-s.off {
		if n -= n % pageSize; n == 0 {
			return 0, io.ErrShortBuffer
		}
	}
	s.p.fill(s.seed, s.off, buf[:n])
	s.off += int64(n)
	return n, nil
}

// age is how long ago the files seem to have been changed: a client must not have to
// doubt that what it knows of them still holds.
const age = 24 * time.Hour

// write makes an old file.
func (p *pattern) write(path string, seed uint64, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(file, struct{ io.Reader }{&source{p: p, seed: seed, size: size}}, make([]byte, min(max(size, pageSize), 1<<20)))
	if errClose := file.Close(); err == nil {
		err = errClose
	}
	if err != nil {
		return err
	}
	old := time.Now().Add(-age)
	return os.Chtimes(path, old, old)
}
