package mount

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/fs"
)

// DirectIO tells which files that are opened for reading only are read past the
// kernel's page cache; see the package documentation for what that gains and costs.
type DirectIO int

// Files for which direct I/O is used.
const (
	DirectNever  DirectIO = iota // none
	DirectAuto                   // those larger than half of the memory that is available
	DirectAlways                 // all
)

var directNames = [...]string{DirectNever: "never", DirectAuto: "auto", DirectAlways: "always"}

// String returns never, auto or always.
func (d DirectIO) String() string {
	if d < 0 || int(d) >= len(directNames) {
		return fmt.Sprintf("DirectIO(%d)", int(d))
	}
	return directNames[d]
}

// ParseDirectIO is the reverse of String.
func ParseDirectIO(text string) (DirectIO, error) {
	for d, name := range directNames {
		if text == name {
			return DirectIO(d), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", text, strings.Join(directNames[:], ", "))
}

// directRule decides about files as they are opened. Safe for concurrent use.
type directRule struct {
	mode      DirectIO
	available func() (bytes int64, ok bool)
	now       func() time.Time

	mu    sync.Mutex
	limit int64     // guarded by mu; larger files are read past the page cache
	until time.Time // guarded by mu; when limit is too old
}

const (
	// directFrom is the size below which no file is large. It spares the opens of
	// small files the question for the available memory.
	directFrom = 64 << 20
	// memoryTTL is how old an answer about the available memory may be.
	memoryTTL = time.Second
)

func newDirectRule(mode DirectIO) *directRule {
	return &directRule{mode: mode, available: memAvailable, now: time.Now}
}

// wants tells whether h is to be read past the page cache.
func (d *directRule) wants(h *fs.Handle, readOnly bool) bool {
	if !readOnly {
		return false
	}
	return d.mode == DirectAlways || d.mode == DirectAuto && d.large(h.Attr().Size)
}

// large tells whether a file of this size would push out most of the page cache.
func (d *directRule) large(size int64) bool {
	if size < directFrom {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.now(); !now.Before(d.until) {
		d.until, d.limit = now.Add(memoryTTL), math.MaxInt64
		if free, ok := d.available(); ok {
			d.limit = free / 2
		}
	}
	return size > d.limit
}

// memAvailable returns how many bytes new pages can have before somebody suffers.
func memAvailable() (bytes int64, ok bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	return parseAvailable(text)
}

// parseAvailable reads MemAvailable, which is in KiB, out of /proc/meminfo.
func parseAvailable(text []byte) (int64, bool) {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemAvailable:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0, false
			}
			kb, err := strconv.ParseInt(string(fields[0]), 10, 64)
			return kb << 10, err == nil
		}
	}
	return 0, false
}
