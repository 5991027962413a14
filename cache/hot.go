package cache

// maxHot is how many blocks have their place remembered: a few for each of the readers
// at work.
const maxHot = 512

// hotBlocks remembers where the blocks are that were read last, so that the next read of
// one costs no look into the index and at its header. An entry is dropped before its
// slot is used for anything else. It is guarded by Store.mu; the zero value is empty.
type hotBlocks struct {
	byKey  map[Key]hotBlock
	bySlot map[int32]Key
	ring   [maxHot]int32 // slots by age, some of which were dropped since
	next   int
	full   bool   // the ring
	drops  uint64 // counts calls of forget
}

// hotBlock is a slot that holds a block, and its header, which was checked.
type hotBlock struct {
	slot int32
	h    *header
}

func (s *hotBlocks) get(k Key) (hotBlock, bool) {
	found, ok := s.byKey[k]
	return found, ok
}

// put remembers a slot, in the place of the one that came first. It was found when drops
// had the given value: what was dropped since may be that block.
func (s *hotBlocks) put(k Key, slot int32, h *header, drops uint64) {
	if drops != s.drops {
		return
	}
	if s.byKey == nil {
		s.byKey, s.bySlot = map[Key]hotBlock{}, map[int32]Key{}
	}
	if _, ok := s.bySlot[slot]; ok {
		return
	}
	if other, ok := s.byKey[k]; ok { // the block is there twice
		s.drop(other.slot)
	}
	if s.full {
		s.drop(s.ring[s.next])
	}
	s.byKey[k], s.bySlot[slot], s.ring[s.next] = hotBlock{slot, h}, k, slot
	s.next = (s.next + 1) % maxHot
	s.full = s.full || s.next == 0
}

func (s *hotBlocks) drop(slot int32) {
	if k, ok := s.bySlot[slot]; ok {
		delete(s.byKey, k)
		delete(s.bySlot, slot)
	}
}

// forget drops what belongs to the branch and, unless that is empty, to the object: also
// blocks that are there twice, of which the index knows one.
func (s *hotBlocks) forget(branch, object string) {
	s.drops++
	for k, hot := range s.byKey {
		if k.Branch == branch && (object == "" || k.Object == object) {
			s.drop(hot.slot)
		}
	}
}
