package writeback

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	copyDir(t, w.dir, t.TempDir())
	other := t.TempDir()
	copyDir(t, w.dir, other) // while nothing was synced
	for _, i := range w.s.Status().Items {
		if i.Path == "/broken" {
			if err := os.WriteFile(filepath.Join(other, "staging", filepath.Base(i.Staged)), make([]byte, 6), 0o600); err != nil {
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
	eventually(t, "the small file is there", func() bool { _, err := w.server.Stat(context.Background(), "/small"); return err == nil })
	has(t, w.server, "/small", "small")
	for _, i := range w.s.Status().Items {
		if i.State != Parked || i.Path == "/small" {
			t.Errorf("item %+v", i)
		}
	}
	hasNot(t, w.server, "/broken")
	hasNot(t, w.server, "/large")
	has(t, w.b, "/large", large)
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
