package writeback

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// recField is how one field of S is written: put appends its value, nothing if it is
// zero; get takes the value back and tells whether it could be.
type recField[S any] struct {
	put func(p []byte, s *S) []byte
	get func(v string, s *S) bool
}

// recAppend appends the fields of s that are not zero.
func recAppend[S any](p []byte, fields []recField[S], s *S) []byte {
	for tag := range fields {
		if fields[tag].put == nil {
			continue
		}
		start := len(p)
		if p = fields[tag].put(p, s); len(p) == start {
			continue
		}
		var head [2 * binary.MaxVarintLen64]byte
		n := binary.PutUvarint(head[:], uint64(tag))
		n += binary.PutUvarint(head[n:], uint64(len(p)-start))
		p = slices.Insert(p, start, head[:n]...)
	}
	return p
}

// recParse reads fields until the end of p. Tags ascend.
func recParse[S any](p string, fields []recField[S], s *S) bool {
	last := uint64(0)
	for p != "" {
		tag, rest, ok := recUvarint(p)
		if !ok || tag <= last {
			return false
		}
		n, rest, ok := recUvarint(rest)
		if !ok || n > uint64(len(rest)) {
			return false
		}
		if tag < uint64(len(fields)) && fields[tag].get != nil && !fields[tag].get(rest[:n], s) {
			return false
		}
		last, p = tag, rest[n:]
	}
	return true
}

// recUvarint reads a varint from the beginning of p.
func recUvarint(p string) (n uint64, rest string, ok bool) {
	if p != "" && p[0] < 0x80 { // most are of one byte, and this is inlined
		return uint64(p[0]), p[1:], true
	}
	return recLongUvarint(p)
}

func recLongUvarint(p string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(p) && i < binary.MaxVarintLen64; i++ {
		b := p[i]
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break // more than 64 bits
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, p[i+1:], true
		}
	}
	return 0, "", false
}

// recVarint reads a signed number.
func recVarint(p string) (int64, string, bool) {
	n, rest, ok := recUvarint(p)
	return int64(n>>1) ^ -int64(n&1), rest, ok
}

// recNumber is a field of a number. A negative one is written as its 64 bits.
func recNumber[S any, N ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](at func(*S) *N) recField[S] {
	return recField[S]{
		put: func(p []byte, s *S) []byte {
			if n := *at(s); n != 0 {
				p = binary.AppendUvarint(p, uint64(n))
			}
			return p
		},
		get: func(v string, s *S) bool {
			n, rest, ok := recUvarint(v)
			*at(s) = N(n)
			return ok && rest == "" && uint64(N(n)) == n
		},
	}
}

func recText[S any](at func(*S) *string) recField[S] {
	return recField[S]{
		put: func(p []byte, s *S) []byte { return append(p, *at(s)...) },
		get: func(v string, s *S) bool {
			*at(s) = v
			return true
		},
	}
}

func recFlag[S any](at func(*S) *bool) recField[S] {
	return recField[S]{
		put: func(p []byte, s *S) []byte {
			if *at(s) {
				p = append(p, 1)
			}
			return p
		},
		get: func(v string, s *S) bool {
			*at(s) = v == "\x01"
			return *at(s)
		},
	}
}

// recTime is a field of a time: the seconds since 1970 with their sign, and the
// nanoseconds.
func recTime[S any](at func(*S) *time.Time) recField[S] {
	return recField[S]{
		put: func(p []byte, s *S) []byte {
			if t := *at(s); !t.IsZero() {
				p = binary.AppendVarint(p, t.Unix())
				p = binary.AppendUvarint(p, uint64(t.Nanosecond()))
			}
			return p
		},
		get: func(v string, s *S) bool {
			sec, rest, ok := recVarint(v)
			nsec, rest, ok2 := recUvarint(rest)
			if !ok || !ok2 || rest != "" || nsec >= uint64(time.Second) {
				return false
			}
			*at(s) = time.Unix(sec, int64(nsec)).UTC()
			return true
		},
	}
}

// recEntry is a field of fields.
func recEntry(at func(*record) *remote.Entry) recField[record] {
	return recField[record]{
		put: func(p []byte, r *record) []byte {
			if e := at(r); *e != (remote.Entry{}) {
				p = recAppend(p, recEntryFields[:], e)
			}
			return p
		},
		get: func(v string, r *record) bool { return recParse(v, recEntryFields[:], at(r)) },
	}
}

// recExtents writes each extent as its distance from the end of the one before, and its
// length. Both have a sign, so that any list comes back as it was.
func recExtents(at func(*record) *[]Extent) recField[record] {
	put := func(p []byte, r *record) []byte { return recPutExtents(p, *at(r)) }
	get := func(v string, r *record) bool {
		list, rest, ok := recGetExtents(v, len(v))
		*at(r) = list
		return ok && rest == ""
	}
	return recField[record]{put, get}
}

func recPutExtents(p []byte, list []Extent) []byte {
	end := int64(0)
	for _, x := range list {
		p = binary.AppendVarint(p, x.Off-end)
		p = binary.AppendVarint(p, x.End-x.Off)
		end = x.End
	}
	return p
}

// recGetExtents reads up to most extents.
func recGetExtents(v string, most int) (list []Extent, rest string, ok bool) {
	end := int64(0)
	for ; v != "" && len(list) < most; v = rest {
		gap, after, ok := recVarint(v)
		n, after, ok2 := recVarint(after)
		if !ok || !ok2 {
			return nil, "", false
		}
		off := end + gap
		end, rest = off+n, after
		list = append(list, Extent{off, end})
	}
	return list, v, true
}

// recPutGhostParts writes, if any of the ghosts has parts, those of each: how many, and they.
func recPutGhostParts(p []byte, r *record) []byte {
	if !slices.ContainsFunc(r.Ghosts, func(g recGhost) bool { return g.Parts != nil }) {
		return p
	}
	for _, g := range r.Ghosts {
		p = binary.AppendUvarint(p, uint64(len(g.Parts)))
		p = recPutExtents(p, g.Parts)
	}
	return p
}

func recGetGhostParts(v string, r *record) bool {
	for i := range r.Ghosts {
		n, rest, ok := recUvarint(v)
		if !ok || n > uint64(len(rest)) {
			return false
		}
		list, rest, ok := recGetExtents(rest, int(n))
		if !ok || len(list) != int(n) {
			return false
		}
		r.Ghosts[i].Parts, v = list, rest
	}
	return v == ""
}

// recPutGhosts writes each as its size, its sum above a bit that tells whether there is
// one, and its time in nanoseconds, 0 for none.
func recPutGhosts(p []byte, r *record) []byte {
	for _, g := range r.Ghosts {
		p = binary.AppendUvarint(p, uint64(g.Size))
		sum := uint64(g.Sum) << 1
		if g.HasSum {
			sum |= 1
		}
		p = binary.AppendUvarint(p, sum)
		nanos := int64(0)
		if !g.MTime.IsZero() {
			nanos = g.MTime.UnixNano()
		}
		p = binary.AppendVarint(p, nanos)
	}
	return p
}

func recGetGhosts(v string, r *record) bool {
	for v != "" {
		size, rest, ok := recUvarint(v)
		sum, rest, ok2 := recUvarint(rest)
		nanos, rest, ok3 := recVarint(rest)
		if !ok || !ok2 || !ok3 || sum>>33 != 0 || int64(size) < 0 {
			return false
		}
		g := recGhost{Size: int64(size), Sum: uint32(sum >> 1), HasSum: sum&1 != 0}
		if nanos != 0 {
			g.MTime = time.Unix(0, nanos).UTC()
		}
		r.Ghosts = append(r.Ghosts, g)
		v = rest
	}
	return true
}

// recPutGhostTimes writes, if it is known of any of the ghosts, when each was made, in
// nanoseconds, 0 if that is not known.
func recPutGhostTimes(p []byte, r *record) []byte {
	if !slices.ContainsFunc(r.Ghosts, func(g recGhost) bool { return !g.Since.IsZero() }) {
		return p
	}
	for _, g := range r.Ghosts {
		nanos := int64(0)
		if !g.Since.IsZero() {
			nanos = g.Since.UnixNano()
		}
		p = binary.AppendVarint(p, nanos)
	}
	return p
}

func recGetGhostTimes(v string, r *record) bool {
	for i := range r.Ghosts {
		nanos, rest, ok := recVarint(v)
		if !ok {
			return false
		}
		if v = rest; nanos != 0 {
			r.Ghosts[i].Since = time.Unix(0, nanos).UTC()
		}
	}
	return v == ""
}
