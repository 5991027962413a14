package cache

// queue decides which slot is used next: S3-FIFO over slots. It is a pure struct
// without locks or I/O; the Store holds its mutex around every call.
type queue struct {
	slots []slotInfo
	lists [3]fifo // by lane; inFree is not used
	free  []int32
	ghost []uint32 // fingerprints of blocks that left the small queue, by hash
	tick  uint32   // touches so far
}

// slotInfo is what is known of a slot without a look at the disk.
type slotInfo struct {
	prev, next int32
	end        uint32 // where the last read in it ended
	tick       uint32 // when it was written, or a read was last counted
	pins       uint16 // readers and writers in it
	lane       lane
	count      uint8 // reads that were counted, up to maxCount
}

// lane says in which queue a slot stands.
type lane uint8

const (
	inFree  lane = iota // in no queue: free, or being written
	inSmall             // new blocks
	inMain              // blocks that were read again
)

const (
	none     = int32(-1)
	maxCount = 3
	// apart is the number of touches of the whole store after which a second read
	// of a block counts wherever it is.
	apart = 1024
	// maxSlack is how far a read may go back and still belong to the same pass:
	// two requests of the kernel, which may come in any order.
	maxSlack = 256 << 10
)

// fifo is a doubly linked list; new slots enter at the head.
type fifo struct {
	head, tail int32
	n          int
}

func newQueue(slots int) *queue {
	q := &queue{ghost: make([]uint32, max(slots, 1))}
	for i := range q.lists {
		q.lists[i] = fifo{none, none, 0}
	}
	return q
}

// grow adds n slots. The first used of them enter the main queue, as what they hold
// is not known; the others are free.
func (q *queue) grow(n, used int) {
	from := len(q.slots)
	q.slots = append(q.slots, make([]slotInfo, n)...)
	for i := from; i < from+used; i++ {
		q.push(int32(i), inMain)
	}
	for i := from + n - 1; i >= from+used; i-- {
		q.free = append(q.free, int32(i))
	}
}

// shrink takes the last n slots away, unless one of them is pinned.
func (q *queue) shrink(n int) bool {
	from := len(q.slots) - n
	for _, s := range q.slots[from:] {
		if s.pins > 0 {
			return false
		}
	}
	for i := from; i < len(q.slots); i++ {
		q.unlink(int32(i))
	}
	free := q.free[:0]
	for _, i := range q.free {
		if int(i) < from {
			free = append(free, i)
		}
	}
	q.free, q.slots = free, q.slots[:from]
	return true
}

func (q *queue) push(i int32, to lane) {
	s, l := &q.slots[i], &q.lists[to]
	s.lane, s.prev, s.next = to, none, l.head
	if l.head != none {
		q.slots[l.head].prev = i
	} else {
		l.tail = i
	}
	l.head = i
	l.n++
}

func (q *queue) unlink(i int32) {
	s := &q.slots[i]
	if s.lane == inFree {
		return
	}
	l := &q.lists[s.lane]
	if s.prev != none {
		q.slots[s.prev].next = s.next
	} else {
		l.head = s.next
	}
	if s.next != none {
		q.slots[s.next].prev = s.prev
	} else {
		l.tail = s.prev
	}
	l.n--
	s.lane = inFree
}

// take returns a slot to write into, pinned, and whether its last block left the
// small queue. ok is false if every slot is pinned.
func (q *queue) take() (i int32, fromSmall, ok bool) {
	if n := len(q.free); n > 0 {
		i, q.free = q.free[n-1], q.free[:n-1]
		q.slots[i].pins++
		return i, false, true
	}
	for range (maxCount + 2) * len(q.slots) {
		from := inMain
		if q.lists[inSmall].n*10 >= len(q.slots) || q.lists[inMain].n == 0 {
			from = inSmall
		}
		i = q.lists[from].tail
		if i == none {
			return 0, false, false
		}
		if q.leaves(i, from) {
			q.slots[i].pins++
			return i, from == inSmall, true
		}
	}
	return 0, false, false
}

// leaves takes the slot at the tail out, or gives it another turn.
func (q *queue) leaves(i int32, from lane) bool {
	s := &q.slots[i]
	q.unlink(i)
	switch {
	case s.pins > 0:
		q.push(i, inMain) // in use: by no means cold
	case s.count == 0:
		return true
	case from == inSmall:
		s.count = 0
		q.push(i, inMain)
	default:
		s.count--
		q.push(i, inMain)
	}
	return false
}

// filled enters a slot that take returned and a block was written to.
func (q *queue) filled(i int32, hash uint64) {
	s := &q.slots[i]
	s.pins--
	s.end, s.count, s.tick = 0, 0, q.tick
	to := inSmall
	if q.isGhost(hash) {
		to = inMain
	}
	q.push(i, to)
}

// empty gives back a slot that holds nothing. A pinned one is given back by the last
// unpin.
func (q *queue) empty(i int32) {
	if q.slots[i].lane == inFree {
		return
	}
	q.unlink(i)
	if q.slots[i].pins == 0 {
		q.free = append(q.free, i)
	}
}

func (q *queue) unpin(i int32) {
	s := &q.slots[i]
	if s.pins--; s.pins == 0 && s.lane == inFree {
		q.free = append(q.free, i)
	}
}

// touch notes a read of n bytes at off of a block with length bytes. It counts if it
// is another pass: it goes back behind the last read by more than the kernel's
// requests may be out of order, or comes long after the last that counted.
func (q *queue) touch(i int32, off, n, length int) {
	q.tick++
	s := &q.slots[i]
	again := off < int(s.end)-min(maxSlack, length/4)
	if again || q.tick-s.tick > apart {
		s.count = min(s.count+1, maxCount)
		s.tick = q.tick
	}
	if again || off+n > int(s.end) {
		s.end = uint32(off + n)
	}
}

// remember notes that a block has left, or was not admitted.
func (q *queue) remember(hash uint64) {
	q.ghost[hash%uint64(len(q.ghost))] = fingerprint(hash)
}

func (q *queue) isGhost(hash uint64) bool {
	return q.ghost[hash%uint64(len(q.ghost))] == fingerprint(hash)
}

// fingerprint is never 0, which stands for no block.
func fingerprint(hash uint64) uint32 { return uint32(hash*0x9e3779b97f4a7c15>>32) | 1 }
