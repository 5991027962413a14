package prefetch

import (
	"math/rand/v2"
	"testing"
)

// k is 1 KiB.
const k = int64(1 << 10)

// access is one read of a recorded pattern.
type access struct {
	off, len int64
	stalled  bool
}

// run returns reads of the given length at from, from+step, ...
func run(from, step, length int64, count int) []access {
	var all []access
	for i := range int64(count) {
		all = append(all, access{off: from + i*step, len: length})
	}
	return all
}

// swapped exchanges every second read with the one after it, as the kernel's two
// requests in flight come.
func swapped(all []access) []access {
	for i := 0; i+1 < len(all); i += 2 {
		all[i], all[i+1] = all[i+1], all[i]
	}
	return all
}

// interleave takes one read of each in turn.
func interleave(lists ...[]access) []access {
	var all []access
	for i := range lists[0] {
		for _, l := range lists {
			all = append(all, l[i])
		}
	}
	return all
}

func randomReads(length, size int64, count int) []access {
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []access
	for range count {
		all = append(all, access{off: rnd.Int64N(size/length) * length, len: length})
	}
	return all
}

// TestWindowPatterns feeds recorded patterns and looks at what would be fetched.
func TestWindowPatterns(t *testing.T) {
	const size = 1 << 30
	q := int64(size / 4)
	tests := []struct {
		name  string
		reads []access
		want  pattern
		ahead []int64 // offsets that must be in the plan after the last read
		spans int     // in the plan
	}{
		{"cat", run(0, 128*k, 128*k, 1), forward, []int64{128 * k, 383 * k}, 1},
		{"cat, third read", run(0, 128*k, 128*k, 3), forward, []int64{384 * k, 640*k - 1}, 1},
		{"cat, swapped", swapped(run(0, 128*k, 128*k, 8)), forward, []int64{1024 * k}, 1},
		{"cat in the middle, swapped", swapped(run(q, 128*k, 128*k, 8)), forward, []int64{q + 1024*k}, 1},
		{"tar: 10 KiB records", run(0, 10*k, 10*k, 20), forward, []int64{200 * k}, 1},
		{"dd bs=4k", run(0, 4*k, 4*k, 2), forward, []int64{8 * k}, 1},
		{"look at a header", run(0, 4*k, 4*k, 1), unknown, nil, 0},
		{"a read in the middle", run(q, 0, 128*k, 1), unknown, nil, 0},
		{"HDF5: 4 KiB each MiB", run(q, 1024*k, 4*k, 5), strided, []int64{q + 5*1024*k, q + 6*1024*k}, 3},
		{"rows of 256 KiB by two requests", interleave(run(q, 4096*k, 128*k, 6), run(q+128*k, 4096*k, 128*k, 6)), strided,
			[]int64{q + 6*4096*k, q + 6*4096*k + 255*k}, 3},
		{"strided downward", run(3*q, -1024*k, 4*k, 5), strided, []int64{3*q - 5*1024*k}, 3},
		{"every second page", run(0, 8*k, 4*k, 20), forward, []int64{156 * k}, 1},
		{"backward", run(q, -128*k, 128*k, 4), backward, []int64{q - 512*k, q - 385*k}, 1},
		{"backward dd bs=4k", run(q, -4*k, 4*k, 10), backward, []int64{q - 40*k}, 1},
		{"random", randomReads(4*k, size, 50), random, nil, 0},
		{"random 128 KiB", randomReads(128*k, size, 50), random, nil, 0},
		{"4 threads at the quarters", interleave(run(0, 128*k, 128*k, 4), run(q, 128*k, 128*k, 4), run(2*q, 128*k, 128*k, 4), run(3*q, 128*k, 128*k, 4)),
			forward, []int64{512 * k, q + 512*k, 2*q + 512*k, 3*q + 512*k}, 4},
		{"two interleaved streams", interleave(run(q, 128*k, 128*k, 5), run(3*q, 64*k, 64*k, 5)), forward,
			[]int64{q + 640*k, 3*q + 320*k}, 2},
		{"re-read of a block", append(run(0, 128*k, 128*k, 4), run(384*k, 0, 128*k, 5)...), forward, []int64{512 * k}, 1},
		{"random reads beside a stream", interleave(run(q, 128*k, 128*k, 20), randomReads(4*k, size, 20)), unknown, []int64{q + 20*128*k}, 1},
		{"the end of the file", run(size-512*k, 128*k, 128*k, 4), forward, nil, 0},
		{"shortly before the end", run(size-640*k, 128*k, 128*k, 4), forward, []int64{size - 1}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWindow(size, 256*k, 32<<20)
			for _, a := range test.reads {
				w.read(a.off, a.len, a.stalled)
			}
			plan := w.plan(nil)
			if w.seen != test.want || len(plan) != test.spans {
				t.Errorf("%v, plan %v; want %v, %d spans", w.seen, plan, test.want, test.spans)
			}
			for _, off := range test.ahead {
				if !planned(plan, off) {
					t.Errorf("%d is not in the plan %v", off, plan)
				}
			}
			checkPlan(t, w, plan, size)
		})
	}
}

func planned(plan []span, off int64) bool {
	for _, s := range plan {
		if s.off <= off && off < s.end() {
			return true
		}
	}
	return false
}

// checkPlan checks what holds for every plan.
func checkPlan(t *testing.T, w *window, plan []span, size int64) {
	t.Helper()
	total := int64(0)
	for _, s := range plan {
		if total += s.len; s.off < 0 || s.len <= 0 || s.end() > size {
			t.Errorf("span %+v of a file of %d bytes", s, size)
		}
		if !w.near(s.off, s.len) {
			t.Errorf("span %+v would be thrown away", s)
		}
	}
	if total > 2*w.max {
		t.Errorf("%d bytes planned, the bound is %d", total, w.max)
	}
}

// TestWindowGrowth: the window doubles on a wait for what was planned with it, once,
// and on nothing else.
func TestWindowGrowth(t *testing.T) {
	w := newWindow(-1, 256*k, 4<<20)
	read := func(off int64, stalled bool) int64 {
		w.read(off, 128*k, stalled)
		return w.streams[0].window
	}
	steps := []struct {
		at      int64 // in units of 128 KiB
		stalled bool
		want    int64
	}{
		{0, true, 256 * k}, {1, false, 256 * k}, {2, false, 256 * k},
		{3, true, 512 * k}, {4, true, 512 * k}, {5, true, 1024 * k}, {6, true, 1024 * k}, {7, false, 1024 * k},
		{8, false, 1024 * k}, {9, true, 2048 * k}, {10, true, 2048 * k},
	}
	for _, step := range steps {
		if got := read(step.at*128*k, step.stalled); got != step.want {
			t.Fatalf("after the read at %d: %d KiB, want %d", step.at, got/k, step.want/k)
		}
	}
	for i := range int64(400) {
		if got := read((11+i)*128*k, true); got > 4<<20 {
			t.Fatalf("window of %d bytes, the bound is %d", got, 4<<20)
		}
	}
	if got := w.streams[0].window; got != 4<<20 {
		t.Errorf("window of %d bytes after many waits", got)
	}
}

// TestWindowShrinks on random access and when memory is short.
func TestWindowShrinks(t *testing.T) {
	w := newWindow(1<<30, 256*k, 8<<20)
	for i := range int64(500) {
		w.read(i*128*k, 128*k, true)
	}
	if got := w.plan(nil)[0].len; got != 8<<20 {
		t.Fatalf("%d bytes ahead", got)
	}
	w.setMax(1 << 20)
	if got := w.plan(nil)[0].len; got != 1<<20 {
		t.Errorf("%d bytes ahead with 1 MiB of memory", got)
	}
	w.setMax(0)
	if got := w.plan(nil); len(got) != 0 {
		t.Errorf("plan %v without memory", got)
	}
	w.setMax(8 << 20)
	w.read(700<<20, 4*k, true)
	if got := w.plan(nil)[0].len; got != 8<<20 {
		t.Errorf("%d bytes ahead after one read elsewhere", got)
	}
	for _, a := range randomReads(4*k, 1<<30, 6) {
		w.read(a.off, a.len, true)
	}
	if got := w.plan(nil)[0].len; got > 256*k {
		t.Errorf("%d bytes ahead after random reads", got)
	}
	for _, a := range randomReads(4*k, 1<<30, 2*stale) {
		w.read(a.off, a.len, true)
	}
	if got := w.plan(nil); len(got) != 0 {
		t.Errorf("the stream is still planned: %v", got)
	}
}

// TestWindowStrideGrowth: the blocks ahead of a strided reader double on waits.
func TestWindowStrideGrowth(t *testing.T) {
	w := newWindow(1<<40, 256*k, 32<<20)
	most := 0
	for i := range int64(300) {
		w.read(i*64*k+4096*k, 4*k, true)
		blocks := len(w.plan(nil))
		if blocks > max(3, 2*most) {
			t.Fatalf("from %d blocks to %d by one read", most, blocks)
		}
		most = max(most, blocks)
	}
	if most != maxBlocks+1 {
		t.Errorf("%d blocks, want %d", most, maxBlocks+1)
	}
	w.read(1<<39, 4*k, true)
	if got := w.plan(nil); len(got) != 0 {
		t.Errorf("after the pattern's end: %v", got)
	}
}

// TestWindowSwapsAtTheEnd: the last request is shorter and comes before the one before.
func TestWindowSwapsAtTheEnd(t *testing.T) {
	size := 1024*k + 5*k
	w := newWindow(size, 256*k, 1<<20)
	for _, a := range run(0, 128*k, 128*k, 7) {
		w.read(a.off, a.len, false)
	}
	w.read(1024*k, 5*k, true)
	w.read(896*k, 128*k, true)
	if len(w.streams) != 1 || w.seen != forward || len(w.plan(nil)) != 0 {
		t.Errorf("%v, streams %v, plan %v", w.seen, w.streams, w.plan(nil))
	}
}

// FuzzWindow: no sequence of reads breaks the plan's rules.
func FuzzWindow(f *testing.F) {
	f.Add(uint64(1), int64(1<<20))
	f.Fuzz(func(t *testing.T, seed uint64, size int64) {
		if size <= 0 || size > 1<<50 {
			return
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		w := newWindow(size, 64*k, 1<<20)
		off := int64(0)
		for range 200 {
			length := min(1+rnd.Int64N(128*k), size)
			switch rnd.IntN(4) {
			case 0:
				off = rnd.Int64N(size)
			case 1:
				off -= length
			default:
				off += length
			}
			off = min(max(off, 0), size-length)
			w.read(off, length, rnd.IntN(2) == 0)
			checkPlan(t, w, w.plan(nil), size)
			if len(w.streams) > maxStreams {
				t.Fatalf("%d streams", len(w.streams))
			}
		}
	})
}
