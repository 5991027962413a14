package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

const (
	headerSize = 4096
	chunkSize  = 16 << 10
	magic      = "mmblock1"

	atGeneration = 8
	atID         = 16
	atLength     = atID + idLen
	atDigest     = atLength + 4
	atState      = atDigest + 32
	atNames      = atState + 4
	atChunks     = headerSize - 4 - 4*MaxBlockSize/chunkSize
	atSum        = headerSize - 4

	maxBranchName = 256
)

// slotState says what a slot holds.
type slotState uint32

const (
	slotUnused  slotState = iota // never written: the whole header is zero
	slotWriting                  // bytes are on their way
	slotFull                     // holds a block
	slotFree                     // held one
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errHeader  = errors.New("the header fails its check")
	errChunk   = errors.New("the bytes fail their check")
	errOther   = errors.New("the slot holds another block")
)

// header is the head of a slot.
type header struct {
	generation uint64
	id         id
	digest     [32]byte
	length     int
	state      slotState
	branch     string // for people, cut
	object     string // for people, cut
	chunks     [MaxBlockSize / chunkSize]uint32
}

// describe fills h for a block.
func (h *header) describe(i ident, generation uint64, data []byte) {
	h.generation, h.id, h.digest, h.length, h.state = generation, i.id, i.digest, len(data), slotFull
	h.branch = i.key.Branch[:min(len(i.key.Branch), maxBranchName)]
	h.object = i.key.Object[:min(len(i.key.Object), atChunks-atNames-4-maxBranchName)]
	for n := 0; n*chunkSize < len(data); n++ {
		h.chunks[n] = crc32.Checksum(data[n*chunkSize:min((n+1)*chunkSize, len(data))], castagnoli)
	}
}

// encode writes the header into p, which has headerSize bytes.
func (h *header) encode(p []byte) {
	clear(p)
	copy(p, magic)
	le := binary.LittleEndian
	le.PutUint64(p[atGeneration:], h.generation)
	copy(p[atID:], h.id[:])
	le.PutUint32(p[atLength:], uint32(h.length))
	copy(p[atDigest:], h.digest[:])
	le.PutUint32(p[atState:], uint32(h.state))
	le.PutUint16(p[atNames:], uint16(len(h.branch)))
	le.PutUint16(p[atNames+2:], uint16(len(h.object)))
	copy(p[atNames+4:], h.branch+h.object)
	for n := 0; n*chunkSize < h.length; n++ {
		le.PutUint32(p[atChunks+4*n:], h.chunks[n])
	}
	le.PutUint32(p[atSum:], crc32.Checksum(p[:atSum], castagnoli))
}

// decode reads a header. One that was never written is of slotUnused.
func (h *header) decode(p []byte) error {
	*h = header{}
	le := binary.LittleEndian
	if string(p[:len(magic)]) != magic || le.Uint32(p[atSum:]) != crc32.Checksum(p[:atSum], castagnoli) {
		if bytes.Count(p, []byte{0}) == len(p) {
			return nil
		}
		return errHeader
	}
	h.generation = le.Uint64(p[atGeneration:])
	copy(h.id[:], p[atID:])
	copy(h.digest[:], p[atDigest:])
	h.length = int(le.Uint32(p[atLength:]))
	h.state = slotState(le.Uint32(p[atState:]))
	branch, object := int(le.Uint16(p[atNames:])), int(le.Uint16(p[atNames+2:]))
	if h.length > MaxBlockSize || atNames+4+branch+object > atChunks {
		return errHeader
	}
	h.branch = string(p[atNames+4 : atNames+4+branch])
	h.object = string(p[atNames+4+branch : atNames+4+branch+object])
	for n := 0; n*chunkSize < h.length; n++ {
		h.chunks[n] = le.Uint32(p[atChunks+4*n:])
	}
	return nil
}

// checkChunk compares the bytes of chunk n.
func (h *header) checkChunk(n int, p []byte) error {
	if crc32.Checksum(p, castagnoli) != h.chunks[n] {
		return errChunk
	}
	return nil
}

// chunkLen is the length of chunk n.
func (h *header) chunkLen(n int) int { return min(chunkSize, h.length-n*chunkSize) }
