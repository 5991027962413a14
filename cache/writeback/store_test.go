package writeback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// site is a server in memory with a branch over it.
type site struct {
	t      *testing.T
	server *memory.Backend
	faulty *remotetest.FaultyBackend
	dir    string
	policy Policy
	opts   Options
	s      *Store
	b      *Branch
}

func newSite(t *testing.T, o memory.Options, p Policy) *site {
	w := &site{t: t, server: memory.New(o), dir: t.TempDir(), policy: p, opts: Options{RetryWait: time.Millisecond}}
	w.policy.Name, w.policy.Tree = "b", "memory:b"
	w.faulty = remotetest.Faulty(w.server, remotetest.Plan{})
	w.open()
	t.Cleanup(func() { _ = w.s.Close() })
	return w
}

func (w *site) open() {
	w.t.Helper()
	var err error
	if w.s, err = Open(w.dir, w.opts); err != nil {
		w.t.Fatal(err)
	}
	if w.b, err = w.s.Wrap(w.faulty, w.policy); err != nil {
		w.t.Fatal(err)
	}
}

// reopen ends the process, as far as the journal is concerned, and begins another.
func (w *site) reopen() {
	w.t.Helper()
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *site) put(path, content string) remote.Entry {
	w.t.Helper()
	e, err := w.b.Put(context.Background(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
	if err != nil {
		w.t.Fatalf("put %s: %v", path, err)
	}
	return e
}

func (w *site) flush() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := w.s.Flush(ctx, "", "/"); err != nil {
		w.t.Fatalf("flush: %v", err)
	}
}

// fails starts the uploads while those operations fail, and waits for the first failure.
func (w *site) fails(ops ...remote.Op) {
	w.t.Helper()
	w.faulty.SetPlan(fault(ops...))
	w.s.Start()
	eventually(w.t, "an attempt has failed", func() bool { return w.s.Status().Items[0].Tries > 0 })
}

// oneFailed waits until a single change is left that has failed.
func (w *site) oneFailed() {
	w.t.Helper()
	eventually(w.t, "one is left that has failed", func() bool { i := w.s.Status().Items; return len(i) == 1 && i[0].Tries > 0 })
}

// onlyRename lets everything go but renames, and waits until a single one is left.
func (w *site) onlyRename() {
	w.t.Helper()
	w.faulty.SetPlan(fault(remote.OpRename))
	w.oneFailed()
}

// restage returns a pending file and its staging file, with a reference.
func (w *site) restage(path string) (remote.Entry, *Stage) {
	w.t.Helper()
	e, err := w.b.Stat(context.Background(), path)
	if err != nil {
		w.t.Fatal(err)
	}
	st, ok := w.b.Restage(e.Version)
	if !ok {
		w.t.Fatalf("the content of %s is not here", path)
	}
	return e, st
}

// has wants a file of the backend to hold something.
func has(t *testing.T, b remote.Backend, path, content string) {
	t.Helper()
	e, err := b.Stat(context.Background(), path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	p := make([]byte, e.Size)
	if _, err := b.ReadAt(context.Background(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, p, 0); err != nil && err != io.EOF {
		t.Errorf("%s: %v", path, err)
	} else if string(p) != content {
		t.Errorf("%s holds %.40q (%d bytes), want %.40q (%d)", path, p, len(p), content, len(content))
	}
}

func hasNot(t *testing.T, b remote.Backend, path string) {
	t.Helper()
	if _, err := b.Stat(context.Background(), path); remote.KindOf(err) != remote.NotExist || err == nil {
		t.Errorf("%s is there (%v)", path, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}

// TestReopen leaves changes of each kind in the journal and carries them out later.
func TestReopen(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	must := func(_ remote.Entry, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.server.Put(ctx, "/old", remotetest.Bytes([]byte("old")), remote.PutOptions{}))
	must(w.server.Put(ctx, "/away", remotetest.Bytes([]byte("away")), remote.PutOptions{}))
	must(w.b.Mkdir(ctx, "/d"))
	must(w.b.Mkdir(ctx, "/d/e"))
	w.put("/d/e/f", "one")
	w.put("/d/e/f", "two")
	w.put("/tmp", "renamed")
	w.put("/old", "new")
	must(w.b.Symlink(ctx, "/d/link", "e/f"))
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	must(w.b.SetAttr(ctx, "/d", remote.Attrs{MTime: &at}))
	for _, err := range []error{
		w.b.Rename(ctx, "/tmp", "/d/final", remote.RenameOptions{}),
		w.b.Remove(ctx, "/away", remote.RemoveOptions{Type: remote.File}),
		w.b.Rename(ctx, "/d/e", "/d/g", remote.RenameOptions{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.reopen()
		has(t, w.b, "/d/g/f", "two")
		has(t, w.b, "/d/final", "renamed")
		has(t, w.b, "/old", "new")
		hasNot(t, w.b, "/away")
		hasNot(t, w.b, "/d/e")
	}
	if n := len(w.s.Status().Items); n == 0 {
		t.Error("nothing is pending")
	}
	w.s.Start()
	w.flush()
	has(t, w.server, "/d/g/f", "two")
	has(t, w.server, "/d/final", "renamed")
	has(t, w.server, "/old", "new")
	hasNot(t, w.server, "/away")
	hasNot(t, w.server, "/tmp")
	if e, err := w.server.Stat(ctx, "/d/link"); err != nil || e.Target != "e/f" {
		t.Errorf("the link: %+v, %v", e, err)
	}
	if list, _ := filepath.Glob(filepath.Join(w.dir, "staging", "s*")); len(list) > 1 { // but for the one in which small ones lie
		t.Errorf("staging files are left: %v", list)
	}
	w.reopen()
	if n := len(w.s.Status().Items); n > 0 {
		t.Errorf("%d changes are back", n)
	}
}

// TestLocked wants one process only to have a journal.
func TestLocked(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	var locked *LockedError
	if _, err := Open(w.dir, Options{}); !errors.As(err, &locked) {
		t.Errorf("a second Open: %v", err)
	}
}

// TestConflict has somebody else change what is pending.
func TestConflict(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	ctx := context.Background()
	put := func(path, content string) {
		t.Helper()
		if _, err := w.server.Put(ctx, path, remotetest.Bytes([]byte(content)), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"/over", "/gone", "/same"} {
		put(p, "base")
	}
	for _, p := range []string{"/over", "/new", "/gone", "/same"} {
		w.put(p, "ours")
	}
	put("/over", "theirs")
	put("/new", "theirs")
	put("/same", "ours")
	if err := w.server.Remove(ctx, "/gone", remote.RemoveOptions{Type: remote.File}); err != nil {
		t.Fatal(err)
	}
	told := make(chan Settled, 10)
	w.b.OnSettled(func(s Settled) { told <- s })
	w.s.Start()
	w.flush()
	has(t, w.server, "/gone", "ours")
	has(t, w.server, "/same", "ours")
	for _, p := range []string{"/over", "/new"} {
		has(t, w.server, p, "theirs")
	}
	conflicts := w.s.Status().Branches[0].Conflicts
	if len(conflicts) != 2 {
		t.Fatalf("conflicts: %+v", conflicts)
	}
	for _, c := range conflicts {
		if !strings.HasPrefix(c.Copy, c.Path+".conflict-localhost-") {
			t.Errorf("the copy of %s is %s", c.Path, c.Copy)
		}
		has(t, w.server, c.Copy, "ours")
	}
	for range 4 {
		if s := <-told; (s.Copy.Type != 0) != (s.Path == "/over" || s.Path == "/new") || !IsLocal(s.Was) || s.Entry.Type != remote.File {
			t.Errorf("told: %+v", s)
		}
	}
	w.reopen()
	if again := w.s.Status().Branches[0].Conflicts; len(again) != 2 {
		t.Errorf("conflicts after a restart: %+v", again)
	}
}

// TestParked has the server refuse a change for good.
func TestParked(t *testing.T) {
	w := newSite(t, memory.Options{MaxFile: 10}, Policy{})
	w.s.Start()
	ctx := context.Background()
	large := strings.Repeat("x", 11)
	w.put("/large", large)
	w.put("/small", "small")
	err := w.s.Flush(ctx, "", "/")
	if remote.KindOf(err) != remote.TooLarge {
		t.Fatalf("flush: %v", err)
	}
	has(t, w.server, "/small", "small")
	w.reopen()
	has(t, w.b, "/large", large)
	st := w.s.Status()
	if len(st.Items) != 1 || st.Items[0].State != Parked || st.Items[0].Kind != remote.TooLarge || st.Branches[0].Parked != 1 {
		t.Fatalf("status: %+v", st)
	}
	id := st.Items[0].ID
	if err := w.b.Sync(ctx, "/large"); remote.KindOf(err) != remote.TooLarge {
		t.Errorf("sync: %v", err)
	}
	dir := t.TempDir()
	name, err := w.s.Export(id, dir)
	if err != nil || name != filepath.Join(dir, "b", "large") {
		t.Fatalf("export: %s, %v", name, err)
	}
	if p, err := os.ReadFile(name); err != nil || string(p) != large {
		t.Errorf("exported: %q, %v", p, err)
	}
	if _, err := w.s.Export(id, dir); remote.KindOf(err) != remote.Exist {
		t.Errorf("export over it: %v", err)
	}
	w.s.Start()
	if err := w.s.Retry(id); err != nil {
		t.Error(err)
	}
	eventually(t, "it is parked again", func() bool { i := w.s.Status().Items; return len(i) == 1 && i[0].State == Parked })
	if err := w.s.Drop(id); err != nil {
		t.Error(err)
	}
	hasNot(t, w.b, "/large")
	w.flush()
	if err := w.s.Drop(id); remote.KindOf(err) != remote.NotExist {
		t.Errorf("drop again: %v", err)
	}
}

// TestGrowing wants a large new file to be sent while it is written.
func TestGrowing(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{Early: 1 << 20, Delay: time.Hour})
	w.s.Start()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	cond := remote.Cond{NotExist: true}
	for off := 0; off < len(content); off += 128 << 10 {
		if _, err := st.WriteAt(content[off:off+128<<10], int64(off)); err != nil {
			t.Fatal(err)
		}
		w.b.Early("/f", st, cond)
	}
	hasNot(t, w.server, "/f")
	if _, err := w.b.Commit(context.Background(), "/f", st, Commit{Cond: cond}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is on the server in spite of the delay", func() bool { return len(w.s.Status().Items) == 0 })
	has(t, w.server, "/f", string(content))
}

// TestGrowingSpoiled changes what was sent already.
func TestGrowingSpoiled(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{Early: 1 << 10})
	w.s.Start()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	for i, spoil := range []func(*Stage) error{
		func(st *Stage) error { _, err := st.WriteAt([]byte("xyz"), 5); return err },
		func(st *Stage) error { return st.Truncate(100) },
		func(st *Stage) error { return st.Truncate(1 << 20) },
		func(*Stage) error { return nil },
	} {
		path := fmt.Sprintf("/f%d", i)
		st, err := w.b.NewStage(0, remote.Entry{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
		w.b.Early(path, st, remote.Cond{NotExist: true})
		if err := spoil(st); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, st.Size())
		if _, err := st.ReadAt(context.Background(), want, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.Commit(context.Background(), path, st, Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
			t.Fatal(err)
		}
		st.Release()
		w.flush()
		has(t, w.server, path, string(want))
	}
}

// TestTorn writes a file again and again while it is sent.
func TestTorn(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Latency: 3 * time.Millisecond}}})
	w.s.Start()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	cond := remote.Cond{NotExist: true}
	var base remote.Entry
	var last string
	for i := range 200 {
		last = strings.Repeat(fmt.Sprintf("%04d", i), 1000)
		if _, err := st.WriteAt([]byte(last), 0); err != nil {
			t.Fatal(err)
		}
		if base, err = w.b.Commit(context.Background(), "/f", st, Commit{Cond: cond, Base: base, Sync: i%50 == 0}); err != nil {
			t.Fatal(err)
		}
		cond = remote.Cond{Version: base.Version}
	}
	st.Release()
	w.flush()
	has(t, w.server, "/f", last)
	if c := w.s.Status().Branches[0].Conflicts; len(c) > 0 {
		t.Errorf("conflicts with ourselves: %+v", c)
	}
}

// TestHeld wants a full server to be told, and everything to arrive when there is room.
func TestHeld(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	w.s.Start()
	full := remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{remote.OpPut}, Kind: remote.NoSpace, Fault: remotetest.FaultError}}}
	w.faulty.SetPlan(full)
	for i := range 20 {
		w.put(fmt.Sprintf("/f%d", i), "content")
	}
	eventually(t, "the branch is full", func() bool { return remote.KindOf(w.b.Full()) == remote.NoSpace && w.b.Full() != nil })
	if err := w.b.Sync(context.Background(), "/f0"); remote.KindOf(err) != remote.NoSpace {
		t.Errorf("sync: %v", err)
	}
	if st := w.s.Status(); st.Branches[0].Held == "" || len(st.Items) != 20 {
		t.Errorf("status: %+v", st.Branches[0])
	}
	w.faulty.SetPlan(remotetest.Plan{})
	if err := w.s.Retry(0); err != nil {
		t.Fatal(err)
	}
	w.flush()
	for i := range 20 {
		has(t, w.server, fmt.Sprintf("/f%d", i), "content")
	}
	if err := w.b.Full(); err != nil {
		t.Errorf("still full: %v", err)
	}
}

// TestSpace wants writers to wait for uploads when staging is full, and ENOSPC only if
// there are none.
func TestSpace(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.opts.Size, w.opts.Patience = 1<<20, 50*time.Millisecond
	w.open()
	st, err := w.b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	if _, err := st.WriteAt(block, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt([]byte("x"), 1<<20); kindOfDisk(err) != remote.NoSpace {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := st.WriteAt([]byte("xyz"), 17); err != nil {
		t.Errorf("over what is there: %v", err)
	}
	st.Release()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.opts.Patience = time.Minute
	w.open()
	w.s.Start()
	for i := range 20 {
		w.put(fmt.Sprintf("/f%d", i), string(block[:600<<10]))
	}
	w.flush()
	if used, _ := w.s.space.staged(); used != 0 {
		t.Errorf("%d bytes are staged in the end", used)
	}
}
