package writeback

import "slices"

// Extent is a range of bytes [Off, End).
type Extent struct{ Off, End int64 }

// extents is a set of bytes as sorted, disjoint, non-adjacent ranges. The zero
// value is empty. It is not safe for concurrent use.
type extents struct{ list []Extent }

// first returns the index of the first range that ends at or after off.
func (x *extents) first(off int64) int {
	i, _ := slices.BinarySearchFunc(x.list, off, func(e Extent, off int64) int {
		if e.End < off {
			return -1
		}
		return 1
	})
	return i
}

// add puts [off, end) into the set and returns how many bytes are new.
func (x *extents) add(off, end int64) int64 {
	if off >= end {
		return 0
	}
	fresh := end - off
	i := x.first(off)
	j := i
	for j < len(x.list) && x.list[j].Off <= end {
		e := x.list[j]
		fresh -= max(0, min(e.End, end)-max(e.Off, off))
		off, end = min(off, e.Off), max(end, e.End)
		j++
	}
	x.list = slices.Replace(x.list, i, j, Extent{off, end})
	return max(fresh, 0)
}

// cut removes all bytes at and after size and returns how many that were.
func (x *extents) cut(size int64) int64 {
	before := x.bytes()
	i := x.first(size)
	if i < len(x.list) && x.list[i].Off < size {
		x.list[i].End = min(x.list[i].End, size)
		i++
	}
	x.list = x.list[:min(i, len(x.list))]
	return before - x.bytes()
}

// bytes returns how many bytes are in the set.
func (x *extents) bytes() (n int64) {
	for _, e := range x.list {
		n += e.End - e.Off
	}
	return n
}

// missing returns the parts of [off, end) that are not in the set.
func (x *extents) missing(off, end int64) []Extent {
	var out []Extent
	for i := x.first(off); i < len(x.list) && x.list[i].Off < end; i++ {
		if x.list[i].Off > off {
			out = append(out, Extent{off, x.list[i].Off})
		}
		off = max(off, x.list[i].End)
	}
	if off < end {
		out = append(out, Extent{off, end})
	}
	return out
}
