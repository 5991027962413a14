package webdav

import "time"

// SetPatience makes b wait less for a server that is at work: for locks and for an
// assembly whose answer was lost, and until the chunks of that are deleted.
// Leftovers are deleted at once.
func (b *Backend) SetPatience(work, abandon time.Duration) {
	b.waits = patienceWith{locks: work, assembly: work, abandon: abandon}
	b.left.pause = 0
}

// Grows tells whether files can be sent while they are written.
func (b *Backend) Grows() bool { return b.grows() }

// SetChunk makes the chunks, tus pieces and ranges of b smaller than servers like them.
func (b *Backend) SetChunk(size int64) {
	b.chunks.usual, b.tus.piece, b.ranges.piece = size, size, size
}

// SetPackIdle makes b wait less for a server that packs a directory.
func (b *Backend) SetPackIdle(d time.Duration) { b.packs.idle = d }

// Held returns the bytes of bundles that are in memory.
func (b *Backend) Held() int64 { return b.packs.held.Load() }

// SetProofAge sets how long what Foresee has seen takes the place of a listing.
func (b *Backend) SetProofAge(age time.Duration) { b.foreseen.age = age }
