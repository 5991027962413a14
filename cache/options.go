package cache

import (
	"errors"
	"fmt"
	"log/slog"
)

// Bounds and defaults of Options.
const (
	MinBlockSize     = 128 << 10
	MaxBlockSize     = 8 << 20
	DefaultBlockSize = 1 << 20
	MinSize          = 32 << 20

	DefaultFetchMemory = 64 << 20
)

// Options of a Store.
type Options struct {
	// Size is the most that the directory takes on the disk, in bytes, index, metadata
	// (a 32nd, from 1 to 256 MiB) and reserved space included. At least MinSize, and
	// room for 8 blocks.
	Size int64
	// Reserve is what stays free on the file system, in bytes. The store gives
	// space back when others take it below that.
	Reserve int64
	// BlockSize in bytes, a power of two from MinBlockSize to MaxBlockSize, 0 for
	// DefaultBlockSize. A directory with another block size is emptied.
	BlockSize int
	// FetchMemory bounds the memory of what is on its way from the servers, in bytes, 0
	// for DefaultFetchMemory. Fetches beyond it wait for others.
	FetchMemory int64
	// Logger gets a line when the store changes its state, nil for none.
	Logger *slog.Logger
}

// withDefaults fills in what is zero and tells all that is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = DefaultBlockSize
	}
	if o.FetchMemory <= 0 {
		o.FetchMemory = DefaultFetchMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.BlockSize < MinBlockSize || o.BlockSize > MaxBlockSize || o.BlockSize&(o.BlockSize-1) != 0 {
		errs = append(errs, fmt.Errorf("block size %d is no power of two from %d to %d", o.BlockSize, MinBlockSize, MaxBlockSize))
	} else if o.Size < MinSize || plan(o.Size, o.BlockSize).slots < 8 {
		errs = append(errs, fmt.Errorf("size %d is too small: at least %d bytes and 8 blocks", o.Size, MinSize))
	}
	if o.Reserve < 0 {
		errs = append(errs, fmt.Errorf("reserve %d is negative", o.Reserve))
	}
	return o, errors.Join(errs...)
}

// layout is how the bytes of a Store are shared out.
type layout struct {
	blockSize int
	segSlots  int   // slots in a segment
	slots     int   // at most, a multiple of segSlots
	table     int64 // Badger's table in memory
	index     int64 // bytes for the index with its ballast
	meta      int64 // bytes for metadata
}

const (
	// smallFiles is left for directories, format and lock.
	smallFiles = 128 << 10
	// indexEntry is the most that a block takes in the index: two copies of about
	// 80 bytes while Badger merges, measured, and what is deleted but not merged.
	indexEntry = 256
)

// plan shares out size bytes.
func plan(size int64, blockSize int) layout {
	l := layout{blockSize: blockSize}
	guess := size / l.slotSize()
	l.table = min(max(guess*256, 1<<20), 16<<20)
	l.index = 8*l.table + 10<<20 + guess*indexEntry
	l.meta = metaShare(size)
	slots := max(size-l.index-l.meta-smallFiles, 0) / l.slotSize()
	l.segSlots = int(min(max(slots/16, 1), 1024))
	l.slots = int(slots) / l.segSlots * l.segSlots
	return l
}

func (l layout) slotSize() int64    { return int64(headerSize + l.blockSize) }
func (l layout) segmentSize() int64 { return int64(l.segSlots) * l.slotSize() }
func (l layout) segments() int      { return l.slots / l.segSlots }

// State tells whether a Store works.
type State string

// The states.
const (
	// StateReady: blocks are served and admitted.
	StateReady State = "ready"
	// StateFull: blocks are served, and none admitted until there is space again.
	StateFull State = "full"
	// StateOff: nothing is served or admitted any more; Stats.Reason says why.
	StateOff State = "off"
	// StateClosed: Close was called.
	StateClosed State = "closed"
)

// Stats are facts and counts of a Store since Open.
type Stats struct {
	State  State
	Reason string // of StateFull and StateOff
	// Slots is the number of blocks that fit into the space taken so far, MaxSlots
	// what Options.Size allows, Free how many of Slots hold nothing.
	Slots, MaxSlots, Free int
	Hits, Misses          int64
	HitBytes              int64
	Puts, PutBytes        int64 // admitted
	Refused               int64 // not admitted
	Evicted               int64
	Corrupt               int64 // slots that failed a check and were not served
	Meta                  MetaStats
}
