package writeback

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestPowerLoss takes the machine down: what was not synced is trusted only if it can be
// proven.
func TestPowerLoss(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.opts.BootID, w.opts.SyncEvery = "before", time.Hour
	w.open()
	large := strings.Repeat("large", maxSum)
	w.put("/small", "small")
	w.put("/broken", "broken")
	w.put("/large", large)
	w.backwards("/scattered", large)
	copyDir(t, w.dir, t.TempDir())
	other := t.TempDir()
	copyDir(t, w.dir, other) // while nothing was synced
	for _, i := range w.s.Status().Items {
		if i.Path == "/broken" {
			f, err := os.OpenFile(filepath.Join(other, "staging", filepath.Base(i.Staged)), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(make([]byte, 6), i.Offset); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.dir, w.opts.BootID = other, "after"
	w.open()
	w.s.Start()
	eventually(t, "the files are there", func() bool {
		_, small := w.server.Stat(context.Background(), "/small")
		_, large := w.server.Stat(context.Background(), "/large")
		return small == nil && large == nil
	})
	has(t, w.server, "/small", "small")
	has(t, w.server, "/large", large)
	eventually(t, "nothing is under way", func() bool { return len(w.s.Status().Items) == 2 })
	for _, i := range w.s.Status().Items {
		if i.State != Parked || i.Path != "/broken" && i.Path != "/scattered" {
			t.Errorf("item %+v", i)
		}
	}
	hasNot(t, w.server, "/broken")
	hasNot(t, w.server, "/scattered")
	has(t, w.b, "/scattered", large)
}

// backwards writes a file from its end to its beginning, so that its checksum is not known.
func (w *site) backwards(path, content string) {
	w.t.Helper()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer st.Release()
	half := len(content) / 2
	for _, at := range []int{half, 0} {
		if _, err := st.WriteAt([]byte(content[at:at+half]), int64(at)); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.b.Commit(context.Background(), path, st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		w.t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to, "x"), os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(filepath.Join(to, "x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := os.Rename(filepath.Join(to, "x", e.Name()), filepath.Join(to, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
