package prefetch

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetExact: what is out and kept is never more than the limit, whatever many
// goroutines do, and buffers are used again.
func TestBudgetExact(t *testing.T) {
	const limit = 4 << 20
	b := NewBudget(limit)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			a := b.join(func() {})
			defer a.leave()
			var mine [][]byte
			for range 2000 {
				if buf := a.get(1+rnd.Int64N(600*k), rnd.IntN(2) == 0); buf != nil {
					mine = append(mine, buf)
				}
				if s := b.Stats(); s.Used < 0 || s.Kept < 0 || s.Used+s.Kept > limit {
					t.Errorf("%+v", s)
				}
				if len(mine) > rnd.IntN(6) {
					a.put(mine[0])
					mine = mine[1:]
				}
			}
			for _, buf := range mine {
				a.put(buf)
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Used != 0 || s.Readers != 0 || s.Refused == 0 || s.Most == 0 || s.Most > limit {
		t.Errorf("at the end: %+v", s)
	}
}

// TestBudgetReuse: a buffer that was given back is handed out again.
func TestBudgetReuse(t *testing.T) {
	a := NewBudget(1 << 20).join(func() {})
	if got := testing.AllocsPerRun(100, func() { a.put(a.get(100*k, true)) }); got > 0 {
		t.Errorf("%v allocations for each buffer", got)
	}
	first := a.get(128*k, true)
	a.put(first)
	if second := a.get(70*k, true); &first[0] != &second[0] || len(second) != int(70*k) {
		t.Error("another buffer was handed out")
	}
}

// TestBudgetShares: the memory is shared evenly among readers at work, a part is kept
// for reads that wait, and idle readers give theirs back.
func TestBudgetShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(8 << 20)
		var held [][]byte
		var idler *account
		idler = b.join(func() {
			for _, buf := range held {
				idler.put(buf)
			}
			held = nil
		})
		for buf := idler.get(1<<20, true); buf != nil; buf = idler.get(1<<20, true) {
			held = append(held, buf)
		}
		if len(held) != 7 {
			t.Fatalf("%d MiB for fetching ahead, want 7 of 8", len(held))
		}
		busy := b.join(func() { t.Error("a reader at work had to give memory back") })
		if got := busy.share(); got != 7<<19 {
			t.Errorf("share %d, want half of 7 MiB", got)
		}
		if busy.get(1<<20, true) != nil {
			t.Error("memory ahead beyond the limit")
		}
		waits := busy.get(1<<20, false)
		if waits == nil {
			t.Error("no memory for a read that waits")
		}
		if busy.reclaim(1 << 20) {
			t.Error("memory was taken from a reader at work")
		}
		time.Sleep(idle + time.Second)
		busy.touch()
		if !busy.reclaim(1<<20) || busy.get(1<<20, true) == nil {
			t.Error("an idle reader's memory was not taken")
		}
		if got := busy.share(); got != 7<<20 {
			t.Errorf("share %d beside an idle reader", got)
		}
	})
}

// TestBudgetBounds of sizes.
func TestBudgetBounds(t *testing.T) {
	if s := NewBudget(0).Stats(); s.Limit != MinBudget {
		t.Errorf("limit %d", s.Limit)
	}
	a := NewBudget(64 << 20).join(func() {})
	if a.get(largest+1, false) != nil {
		t.Error("a buffer larger than the largest")
	}
	for n, want := range map[int64]int{0: 0, 1: 0, 4096: 0, 4097: 1, 128 * k: 5, 128*k + 1: 6, largest: classes - 1} {
		if got := classOf(n); got != want {
			t.Errorf("class of %d: %d, want %d", n, got, want)
		}
	}
}

// TestCgroupLimit reads trees like those of real machines.
func TestCgroupLimit(t *testing.T) {
	tests := []struct {
		name  string
		self  string
		files map[string]string
		want  int64
		fails bool
	}{
		{"none", "", nil, 0, false},
		{"version 2", "0::/user.slice/job\n", map[string]string{"user.slice/job/memory.max": "1073741824\n", "user.slice/memory.max": "max\n"}, 1 << 30, false},
		{"version 2, the parent is narrower", "0::/slurm/job/step\n", map[string]string{"slurm/job/memory.max": "536870912\n", "slurm/job/step/memory.max": "max\n"}, 512 << 20, false},
		{"version 2, no limit", "0::/\n", map[string]string{"memory.max": "max\n"}, 0, false},
		{"version 2 in a container that sees its own group as the root", "0::/docker/0123\n", map[string]string{"memory.max": "268435456\n"}, 256 << 20, false},
		{"version 1", "12:cpu,cpuacct:/x\n4:memory:/slurm/uid_1/job_2\n0::/x\n", map[string]string{"memory/slurm/uid_1/job_2/memory.limit_in_bytes": "2147483648\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2 << 30, false},
		{"version 1 without limit", "4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0, false},
		{"version 1, a kernel with 64 KiB pages", "4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "9223372036854710272\n"}, 0, false},
		{"version 1, more than 63 bits", "4:memory:/\n", map[string]string{"memory/memory.limit_in_bytes": "18446744073709551615\n"}, 0, false},
		{"a path that climbs", "0::/../../..\n", map[string]string{"memory.max": "1048576\n"}, 1 << 20, false},
		{"garbage in the limit", "0::/\n", map[string]string{"memory.max": "lots\n"}, 0, true},
		{"garbage in the list", "garbage\n::\n0:\n", map[string]string{"memory.max": "1\n"}, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			for name, text := range test.files {
				write(t, filepath.Join(root, name), text)
			}
			self := filepath.Join(dir, "self")
			if test.self != "" {
				write(t, self, test.self)
			}
			got, err := CgroupLimit(self, root)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("%d, %v; want %d", got, err, test.want)
			}
		})
	}
	for _, test := range []struct{ want, limit, fit int64 }{
		{128 << 20, 0, 128 << 20}, {128 << 20, 1 << 30, 128 << 20}, {128 << 20, 256 << 20, 64 << 20}, {128 << 20, 1 << 20, MinBudget},
	} {
		if got := Fit(test.want, test.limit); got != test.fit {
			t.Errorf("Fit(%d, %d) = %d, want %d", test.want, test.limit, got, test.fit)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
