package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Key names one block of one version of an object.
type Key struct {
	Branch  string // stands for the remote tree, the same at every mount
	Object  string // path or identity within the branch
	Version string // never empty
	// Provisional blocks are not found any more after the Store was closed, nor
	// under the same key without this mark.
	Provisional bool
	Index       uint32 // number of the block
}

const (
	branchLen = 8
	objectLen = branchLen + 16
	idLen     = objectLen + 16 + 4
)

// id is the key of a block in the index: digests of branch, object and version cut
// to 8, 16 and 16 bytes, so that all blocks of an object stand together, and the
// number of the block.
type id [idLen]byte

func branchPrefix(branch string) []byte {
	sum := sha256.Sum256([]byte(branch))
	return sum[:branchLen]
}

func objectPrefix(branch, object string) []byte {
	sum := sha256.Sum256([]byte(object))
	return append(branchPrefix(branch), sum[:objectLen-branchLen]...)
}

// ident is what a Key is to a Store: its place in the index and the whole digest
// that stands in the header of its slot.
type ident struct {
	id     id
	digest [sha256.Size]byte
	key    Key
}

// ident computes both. session separates the provisional blocks of one Open.
func (k Key) ident(session uint64) ident {
	i := ident{key: k}
	if !k.Provisional {
		session = 0
	}
	version := sha256.New()
	addText(version, k.Version)
	addNumber(version, session)
	prefix := objectPrefix(k.Branch, k.Object)
	copy(i.id[:], prefix)
	copy(i.id[objectLen:], version.Sum(nil))
	binary.BigEndian.PutUint32(i.id[idLen-4:], k.Index)

	whole := sha256.New()
	for _, s := range []string{k.Branch, k.Object, k.Version} {
		addText(whole, s)
	}
	addNumber(whole, session)
	addNumber(whole, uint64(k.Index))
	copy(i.digest[:], whole.Sum(nil))
	return i
}

// addText adds a text with its length, so that two texts never run into another.
func addText(h hash.Hash, s string) {
	addNumber(h, uint64(len(s)))
	h.Write([]byte(s))
}

func addNumber(h hash.Hash, n uint64) { h.Write(binary.BigEndian.AppendUint64(nil, n)) }

// hash is a number for the ghosts of the queue.
func (i id) hash() uint64 {
	return binary.BigEndian.Uint64(i[branchLen:])*0x9e3779b97f4a7c15 ^
		binary.BigEndian.Uint64(i[objectLen:]) ^ uint64(binary.BigEndian.Uint32(i[idLen-4:]))*0xff51afd7ed558ccd
}
