package prefetch

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of buffers: powers of two from smallest to largest.
const (
	smallestBits = 12 // 4 KiB
	largestBits  = 23 // 8 MiB
	smallest     = 1 << smallestBits
	largest      = 1 << largestBits
	classes      = largestBits - smallestBits + 1
)

// idle is how long after its last read a reader's memory may be taken by others.
const idle = 2 * time.Second

// MinBudget is the least that NewBudget takes, in bytes: less leaves no room for one
// piece ahead and a few reads.
const MinBudget = 1 << 20

// Budget is the memory for fetched bytes, shared by all readers of the process. What it
// has handed out and what it keeps for reuse are never together more than its limit. A
// part of it is kept for reads that somebody waits for; the rest is shared evenly among
// the readers at work. All methods may be called from many goroutines.
type Budget struct {
	limit   int64
	reserve int64 // not for fetching ahead

	mu       sync.Mutex // guards everything below
	out      int64      // bytes handed out
	kept     int64      // bytes in free
	most     int64      // the highest out so far
	refused  int64
	active   int64     // readers at work when they were counted
	counted  time.Time // when that was
	free     [classes][][]byte
	accounts map[*account]struct{}
}

// BudgetStats tells how a Budget is used, in bytes.
type BudgetStats struct {
	Limit   int64
	Used    int64 // handed out
	Kept    int64 // idle, for reuse
	Most    int64 // the highest Used so far
	Refused int64 // requests for memory that were refused; a count
	Readers int   // that have an account
}

// NewBudget returns a budget of limit bytes, at least MinBudget.
func NewBudget(limit int64) *Budget {
	limit = max(limit, MinBudget)
	return &Budget{limit: limit, reserve: limit / 8, accounts: map[*account]struct{}{}}
}

// Stats returns the present use.
func (b *Budget) Stats() BudgetStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return BudgetStats{Limit: b.limit, Used: b.out, Kept: b.kept, Most: b.most, Refused: b.refused, Readers: len(b.accounts)}
}

// account is one reader's part of a Budget.
type account struct {
	b      *Budget
	shrink func()       // gives back what can be spared; takes the reader's lock
	used   int64        // guarded by b.mu
	last   atomic.Int64 // nanoseconds since 1970 of the latest read
}

// join opens an account. shrink is called without the budget's lock.
func (b *Budget) join(shrink func()) *account {
	a := &account{b: b, shrink: shrink}
	a.touch()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts[a] = struct{}{}
	return a
}

// leave closes the account. Buffers that are still out may be given back later.
func (a *account) leave() {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	delete(a.b.accounts, a)
}

// touch notes that the reader is at work.
func (a *account) touch() { a.last.Store(time.Now().UnixNano()) }

func (a *account) idle(now time.Time) bool { return now.UnixNano()-a.last.Load() > int64(idle) }

// share is how much the reader may hold of what is fetched ahead, in bytes.
func (a *account) share() int64 {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	return a.b.shareLocked(a, time.Now())
}

// countTime is how long a count of the readers at work is used, over which it may be off
// by those that came or went.
const countTime = 20 * time.Millisecond

func (b *Budget) shareLocked(asker *account, now time.Time) int64 {
	if now.Sub(b.counted) > countTime || len(b.accounts) <= 8 {
		b.active, b.counted = 0, now
		for a := range b.accounts {
			if !a.idle(now) {
				b.active++
			}
		}
	}
	active := max(b.active, 1)
	if asker.idle(now) {
		active++ // it was not counted
	}
	return (b.limit - b.reserve) / active
}

// get returns a buffer of n bytes, or nil if there is no memory for it: for what is
// fetched ahead, none within the reader's share.
func (a *account) get(n int64, ahead bool) []byte {
	class := classOf(n)
	if class < 0 {
		return nil
	}
	b, size := a.b, int64(smallest)<<class
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := b.limit
	if ahead {
		limit -= b.reserve
	}
	if b.out+size > limit || ahead && a.used+size > b.shareLocked(a, time.Now()) {
		b.refused++
		return nil
	}
	a.used += size
	b.out += size
	b.most = max(b.most, b.out)
	return b.take(class, size)[:n]
}

// take returns a kept buffer or makes one, for which other kept ones may have to go.
func (b *Budget) take(class int, size int64) []byte {
	if kept := b.free[class]; len(kept) > 0 {
		last := len(kept) - 1
		buf := kept[last]
		kept[last] = nil
		b.free[class] = kept[:last]
		b.kept -= size
		return buf
	}
	for c := classes - 1; c >= 0 && b.out+b.kept > b.limit; c-- {
		for len(b.free[c]) > 0 && b.out+b.kept > b.limit {
			last := len(b.free[c]) - 1
			b.free[c][last] = nil
			b.free[c] = b.free[c][:last]
			b.kept -= smallest << c
		}
	}
	return make([]byte, size)
}

// put takes back a buffer from get.
func (a *account) put(buf []byte) {
	class, b := classOf(int64(cap(buf))), a.b
	size := int64(smallest) << class
	b.mu.Lock()
	defer b.mu.Unlock()
	a.used -= size
	b.out -= size
	b.kept += size
	b.free[class] = append(b.free[class], buf[:size])
}

// reclaim makes room for n bytes by taking from idle readers, the longest idle first,
// and tells whether a second try makes sense. Readers at work that are above their
// share are left alone: they get nothing new until they have read what they hold. It
// must be called without any reader's lock.
func (a *account) reclaim(n int64) bool {
	if a.b.fits(n) {
		return false // it is the reader's own share that is used up
	}
	for _, other := range a.b.idlers(a) {
		other.shrink()
		if a.b.fits(n) {
			return true
		}
	}
	return false
}

// fits tells whether n more bytes may be fetched ahead, shares aside.
func (b *Budget) fits(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out+n <= b.limit-b.reserve
}

// idlers returns the idle readers that hold memory, the longest idle first.
func (b *Budget) idlers(asker *account) []*account {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var found []*account
	for a := range b.accounts {
		if a != asker && a.used > 0 && a.idle(now) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(x, y *account) int { return cmp.Compare(x.last.Load(), y.last.Load()) })
	return found
}

// classOf returns the class of buffers that hold n bytes, or -1 if none does.
func classOf(n int64) int {
	if n > largest {
		return -1
	}
	return bits.Len64(uint64(max(n, smallest)-1)) - smallestBits
}
