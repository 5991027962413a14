package fs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
)

// journal is a world's journal of changes, in tests that run with one.
type journal struct {
	dir    string
	store  *writeback.Store
	branch *writeback.Branch
}

// withJournal tells whether a test that makes a world is run by TestWriteBack, or is about
// the journal.
func withJournal(t *testing.T) bool {
	return strings.HasPrefix(t.Name(), "TestWriteBack/") || strings.HasPrefix(t.Name(), "TestBack")
}

// keepJournal puts a journal over the branch.
func (w *world) keepJournal(b *Branch) {
	w.t.Helper()
	if w.journal.dir == "" {
		w.journal.dir = w.t.TempDir()
	}
	var err error
	w.journal.store, err = writeback.Open(w.journal.dir, writeback.Options{Hostname: "node1", Patience: patience(w.t), Late: time.Millisecond, RetryWait: time.Millisecond})
	w.must(err)
	w.journal.branch, err = w.journal.store.Wrap(b.Backend, writeback.Policy{Name: "a", Tree: "a"})
	w.must(err)
	b.Back = w.journal.branch
	w.journal.store.Start()
}

// patience is how long a change waits for uploads that do not move: for long, but in the test
// in which they never do.
func patience(t *testing.T) time.Duration {
	if t.Name() == "TestWriteBack/TestXattrPutFails" {
		return 50 * time.Millisecond
	}
	return 4 * time.Minute
}

// drain waits until the server has everything.
func (w *world) drain() {
	w.t.Helper()
	if w.journal.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := w.journal.store.Drain(ctx); err != nil {
		w.t.Errorf("drain: %v: %+v", err, w.journal.store.Status().Items)
	}
}

// settle waits until the server has everything and the file system knows.
func (w *world) settle() {
	w.t.Helper()
	w.drain()
	if w.journal.store != nil {
		w.journal.branch.Told()
	}
}

// endJournal closes the journal, in which nothing may be left.
func (w *world) endJournal() {
	w.t.Helper()
	if w.journal.store == nil {
		return
	}
	w.drain()
	if err := w.journal.store.Close(); err != nil {
		w.t.Error(err)
	}
	w.journal.store = nil
	left, err := os.ReadDir(filepath.Join(w.journal.dir, "staging"))
	if err != nil || len(left) > 0 {
		w.t.Errorf("staging directory of the journal: %v %v", left, err)
	}
}
