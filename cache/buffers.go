package cache

import (
	"math/bits"
	"sync"
)

// buffers keeps the memory of fetches for the next ones: collecting megabytes of garbage
// for each would cost more than the bytes themselves. The zero value keeps nothing.
// Safe for concurrent use.
type buffers struct {
	mu   sync.Mutex
	free [bufferClasses][][]byte // guarded by mu; by the power of two that is their capacity
	kept int                     // guarded by mu; bytes in free
	most int                     // bytes that may be in free
}

const (
	bufferClasses = 25       // up to 16 MiB
	minBuffer     = 64 << 10 // smaller ones are left to the collector
)

// bufferSize returns what a buffer of n bytes takes.
func bufferSize(n int) int {
	class := bits.Len(uint(max(n, 1) - 1))
	if n < minBuffer || class >= bufferClasses {
		return n
	}
	return 1 << class
}

// get returns a buffer of n bytes with any content.
func (b *buffers) get(n int) []byte {
	class := bits.Len(uint(max(n, 1) - 1))
	if n < minBuffer || class >= bufferClasses {
		return make([]byte, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if list := b.free[class]; len(list) > 0 {
		last := len(list) - 1
		buf := list[last]
		list[last] = nil
		b.free[class] = list[:last]
		b.kept -= cap(buf)
		return buf[:n]
	}
	return make([]byte, n, 1<<class)
}

// put takes a buffer from get back.
func (b *buffers) put(buf []byte) {
	class := bits.Len(uint(max(cap(buf), 1) - 1))
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(buf) < minBuffer || cap(buf) != 1<<class || b.kept+cap(buf) > b.most {
		return
	}
	b.free[class] = append(b.free[class], buf)
	b.kept += cap(buf)
}
