package writeback

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestMany has a great many pending files: they take little memory, are there again after
// a restart at once, and arrive in the end.
func TestMany(t *testing.T) {
	n := 5000
	if os.Getenv("MESHMOUNT_LONG") != "" {
		n = 100_000
	}
	w := newSite(t, memory.Options{}, Policy{})
	before := heap()
	for i := range n {
		if i%1000 == 0 {
			if _, err := w.b.MakeDir(context.Background(), fmt.Sprintf("/d%d", i/1000), remote.Attrs{}); err != nil {
				t.Fatal(err)
			}
		}
		st, err := w.b.NewStage(0, remote.Entry{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.WriteAt([]byte("some content"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.Commit(context.Background(), many(i), st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
			t.Fatal(err)
		}
		st.Release()
	}
	each := (heap() - before) / int64(n)
	t.Logf("%d bytes of memory each", each)
	if each > 2048 {
		t.Errorf("a pending file takes %d bytes of memory", each)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w.open()
	t.Logf("%d changes are back after %v", n, time.Since(start))
	if got := len(w.s.Status().Items); got < n {
		t.Fatalf("%d changes are back, want %d", got, n)
	}
	w.s.Start()
	if err := w.s.Flush(t.Context(), "", "/"); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += max(n/50, 1) {
		has(t, w.server, many(i), "some content")
	}
}

func many(i int) string { return fmt.Sprintf("/d%d/file %d", i/1000, i) }

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
