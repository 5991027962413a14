package writeback

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/memory"
)

// TestBurst wants the oldest files of a full batch, by number or bytes, of those that were left
// alone for long enough.
func TestBurst(t *testing.T) {
	now := time.Unix(1000, 0)
	bounds := Batching{Size: 100, Files: 10, Bytes: 500}
	files := func(n int, size int64, alter func(i int, w *waiting)) (list []waiting) {
		for i := range n {
			w := waiting{c: &change{id: uint64(n - i)}, size: size, since: now.Add(-200 * time.Millisecond), due: now.Add(time.Second), quiet: true}
			if alter != nil {
				alter(i, &w)
			}
			list = append(list, w)
		}
		return list
	}
	for what, x := range map[string]struct {
		list []waiting
		want int
	}{
		"none":       {nil, 0},
		"too few":    {files(9, 1, nil), 0},
		"by number":  {files(25, 1, nil), 10},
		"by bytes":   {files(8, 90, nil), 5},
		"just bytes": {files(5, 100, nil), 0},
		"open":       {files(15, 1, func(i int, w *waiting) { w.quiet = i%2 == 0 }), 0},
		"young":      {files(15, 1, func(i int, w *waiting) { w.since = now.Add(-time.Duration(i) * 10 * time.Millisecond) }), 0},
		"too large":  {files(15, 101, nil), 0},
	} {
		var u burst
		group, wait := u.full(now, 100*time.Millisecond, bounds, x.list)
		if len(group) != x.want || (wait > 0) != (x.want == 0) {
			t.Errorf("%s: %d files, wait %v", what, len(group), wait)
		}
		for i, c := range group {
			if c.id != uint64(i+1) {
				t.Errorf("%s: file %d is %d", what, i, c.id)
			}
		}
		if again := u.may(now, 100, 100*time.Millisecond, bounds); again != (x.want > 0) {
			t.Errorf("%s: looks again at once: %v", what, again)
		}
	}
	var u burst
	if u.may(now, 5, time.Second, bounds) || !u.may(now, 6, time.Second, bounds) || !u.may(now, 10, time.Second, bounds) {
		t.Error("it looks at a number of files that cannot fill a batch, or not at one that may")
	}
}

// TestBurstIsOver wants what is left after full batches to leave when no more files come, and
// files that follow no such batch not to.
func TestBurstIsOver(t *testing.T) {
	const rest = 100 * time.Millisecond
	bounds := Batching{Size: 100, Files: 10, Bytes: 500}
	begin := time.Unix(1000, 0)
	files := func(n int) (list []waiting) {
		for i := range n {
			list = append(list, waiting{c: &change{id: uint64(i)}, size: 1, since: begin, due: begin.Add(time.Second), quiet: true})
		}
		return list
	}
	var u burst
	if group, _ := u.full(begin.Add(9*rest), rest, bounds, files(5)); len(group) > 0 {
		t.Errorf("%d files that are no burst", len(group))
	}
	u = burst{}
	if group, _ := u.full(begin.Add(rest), rest, bounds, files(15)); len(group) != 10 {
		t.Fatalf("%d files", len(group))
	}
	for _, x := range []struct {
		after time.Duration
		young int // files that have just come, and are open
		want  int
	}{{2 * rest, 0, 0}, {3 * rest, 1, 0}, {3 * rest, 0, 5}, {10 * rest, 0, 5}, {11 * rest, 0, 0}} {
		now, u := begin.Add(x.after), u
		list := files(5)
		for range x.young {
			list = append(list, waiting{c: &change{id: 99}, size: 1, since: now})
		}
		if !u.may(now, len(list), rest, bounds) && x.after <= 10*rest {
			t.Errorf("after %v it does not look", x.after)
		}
		if group, _ := u.full(now, rest, bounds, list); len(group) != x.want {
			t.Errorf("after %v: %d files, want %d", x.after, len(group), x.want)
		}
	}
}

// TestBurstLooksSeldom wants files that are far from leaving to be looked at now and then only.
func TestBurstLooksSeldom(t *testing.T) {
	now := time.Unix(1000, 0)
	bounds := Batching{Size: 100, Files: 10, Bytes: 500}
	for _, x := range []struct {
		n          int
		rest, want time.Duration
	}{{1000, 100 * time.Millisecond, burstLook}, {1000, time.Minute, 3 * time.Second}, {100_000, 100 * time.Millisecond, time.Second}} {
		var u burst
		list := make([]waiting, x.n) // open
		if _, wait := u.full(now, x.rest, bounds, list); wait != x.want {
			t.Errorf("%d files, of which each is left alone for %v: looks after %v, want %v", x.n, x.rest, wait, x.want)
		}
		if u.may(now.Add(x.want-1), x.n, x.rest, bounds) || !u.may(now.Add(x.want), x.n, x.rest, bounds) {
			t.Errorf("%d files: it does not look after %v", x.n, x.want)
		}
	}
}

// BenchmarkBurst looks at many files of an earlier mount, none of which can leave yet.
func BenchmarkBurst(b *testing.B) {
	x := &Branch{queue: newQueue(), store: &Store{}, policy: Policy{Batch: Batching{Size: 100, Files: 10, Bytes: 500}}}
	for range 100_000 {
		x.queue.small.put(&change{b: x, kind: opPut, slot: -1, size: 9, replayed: true, stage: &Stage{}})
	}
	for b.Loop() {
		x.burst.look = time.Time{}
		x.gatherFull(time.Unix(1000, 0), x.policy.Batch, 1)
	}
}

// TestFullBatchDoesNotWait wants as many closed files as fill a batch to leave long before their
// time, others and one that is open not, and what is removed meanwhile to take its upload back.
func TestFullBatchDoesNotWait(t *testing.T) {
	x := newBatched(t, memory.Options{}, Policy{})
	x.policy.Delay, x.policy.Batch.Delay = time.Hour, time.Hour
	var later atomic.Int64
	x.opts.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	x.reopen()
	x.put("/open", "open")
	e, err := x.b.Stat(t.Context(), "/open")
	if err != nil {
		t.Fatal(err)
	}
	st, ok := x.b.Restage(e.Version)
	if !ok {
		t.Fatal("it is not staged")
	}
	defer st.Release()
	x.fill("", 39)
	later.Store(int64(30 * time.Minute))
	x.s.Start()
	time.Sleep(2 * burstLook)
	if n, _, alone := x.counts(); n+alone > 0 {
		t.Fatalf("%d batches and %d alone, though one of the files is open", n, alone)
	}
	x.s.Pause()
	later.Store(0)
	x.put("/last", "last")
	x.put("/more", "more")
	later.Store(int64(31 * time.Minute))
	x.s.Resume()
	eventually(t, "a full batch leaves", func() bool { n, files, _ := x.counts(); return n == 1 && files == 40 })
	if _, ok := x.b.Restage(e.Version); !ok {
		t.Error("the open file was sent")
	}
	x.flush()
	x.full("", 39)
}
