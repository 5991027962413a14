package fs

import "slices"

// extent is a range of bytes [off, end).
type extent struct{ off, end int64 }

// extents is a set of bytes as sorted, disjoint, non-adjacent ranges. The zero
// value is empty. It is not safe for concurrent use.
type extents struct{ list []extent }

// first returns the index of the first range that ends at or after off.
func (x *extents) first(off int64) int {
	i, _ := slices.BinarySearchFunc(x.list, off, func(e extent, off int64) int {
		if e.end < off {
			return -1
		}
		return 1
	})
	return i
}

// add puts [off, end) into the set.
func (x *extents) add(off, end int64) {
	if off >= end {
		return
	}
	i := x.first(off)
	j := i
	for j < len(x.list) && x.list[j].off <= end {
		off, end = min(off, x.list[j].off), max(end, x.list[j].end)
		j++
	}
	x.list = slices.Replace(x.list, i, j, extent{off, end})
}

// cut removes all bytes at and after size.
func (x *extents) cut(size int64) {
	i := x.first(size)
	if i < len(x.list) && x.list[i].off < size {
		x.list[i].end = min(x.list[i].end, size)
		i++
	}
	x.list = x.list[:min(i, len(x.list))]
}

// missing returns the parts of [off, end) that are not in the set.
func (x *extents) missing(off, end int64) []extent {
	var out []extent
	for i := x.first(off); i < len(x.list) && x.list[i].off < end; i++ {
		if x.list[i].off > off {
			out = append(out, extent{off, x.list[i].off})
		}
		off = max(off, x.list[i].end)
	}
	if off < end {
		out = append(out, extent{off, end})
	}
	return out
}
