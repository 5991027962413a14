package fs

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

// inodes allots inode numbers. The number of an object is a hash of its parent's
// number and its name when it was first seen, so that it is the same over remounts;
// it stays with the object (and with all below it) when that is renamed, and is
// never given to another object while the mount lives: a name that is used again
// gets a fresh number.
type inodes struct {
	mu    sync.Mutex
	own   map[nameKey]uint64  // guarded by mu; names whose number is not their hash
	burnt map[uint64]struct{} // guarded by mu; hashes that belong or belonged to another object
	next  uint64              // guarded by mu; counter of fresh numbers
}

// nameKey is a name in a directory.
type nameKey struct {
	dir  uint64
	name string
}

// RootIno is the inode number of the mount's root.
const RootIno = 1

func newInodes() *inodes {
	return &inodes{own: map[nameKey]uint64{}, burnt: map[uint64]struct{}{}}
}

// natural returns the hash of a name.
func (k nameKey) natural() uint64 {
	var buf [264]byte
	b := binary.BigEndian.AppendUint64(buf[:0], k.dir)
	sum := sha256.Sum256(append(b, k.name...))
	// Bit 63 is kept for fresh numbers, bit 62 keeps clear of small reserved ones.
	return binary.BigEndian.Uint64(sum[:])&^(1<<63) | 1<<62
}

// of returns the number of the object that is at path now.
func (t *inodes) of(path string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ofLocked(path)
}

func (t *inodes) ofLocked(path string) uint64 {
	ino := uint64(RootIno)
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if name != "" {
			ino = t.child(nameKey{ino, name})
		}
	}
	return ino
}

func (t *inodes) child(k nameKey) uint64 {
	if ino, ok := t.own[k]; ok {
		return ino
	}
	ino := k.natural()
	if _, used := t.burnt[ino]; used {
		t.next++
		ino = 1<<63 | t.next
		t.own[k] = ino
	}
	return ino
}

func (t *inodes) key(path string) nameKey {
	dir, name := remote.Split(path)
	return nameKey{t.ofLocked(dir), name}
}

// gone says that the object at path exists no more, or not under this name: the
// next one there gets another number.
func (t *inodes) gone(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.goneLocked(t.key(path))
}

func (t *inodes) goneLocked(k nameKey) {
	delete(t.own, k)
	t.burnt[k.natural()] = struct{}{}
}

// rename takes the number of from along to the new name.
func (t *inodes) rename(from, to string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ino, kf, kt := t.ofLocked(from), t.key(from), t.key(to)
	t.goneLocked(kf)
	t.goneLocked(kt)
	t.own[kt] = ino
}
