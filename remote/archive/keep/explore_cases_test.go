package keep_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// stage is a server for a case that somebody has thought of.
type stage struct {
	*testing.T
	server *memory.Backend
}

func newStage(t *testing.T) *stage {
	s := &stage{t, memory.New(memory.Options{})}
	t.Cleanup(func() { _ = s.server.Close() })
	if _, err := s.server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	return s
}

// client returns one that has seen nothing; hook, if not nil, is around its requests.
func (s *stage) client(hook remote.Interceptor) *keep.Backend {
	if hook == nil {
		return keep.Wrap(s.server, keep.Options{})
	}
	return keep.Wrap(remote.Intercept(s.server, hook), keep.Options{})
}

// store stores files in a batch, and wants all to be stored.
func (s *stage) store(k *keep.Backend, files map[string]string) {
	s.Helper()
	for path, err := range s.storeSome(k, files) {
		if err != nil {
			s.Fatalf("%s: %v", path, err)
		}
	}
}

// storeSome stores files in a batch and returns what has become of each.
func (s *stage) storeSome(k *keep.Backend, files map[string]string) map[string]error {
	s.Helper()
	var items []remote.BatchItem
	for _, path := range slices.Sorted(maps.Keys(files)) {
		items = append(items, remote.BatchItem{Path: path, Source: remotetest.Bytes([]byte(files[path]))})
	}
	got, err := k.PutBatch(s.Context(), items)
	all := map[string]error{}
	for i, it := range items {
		if all[it.Path] = err; err == nil {
			all[it.Path] = got[i].Err
		}
	}
	return all
}

// create stores a plain file that is to be new.
func (s *stage) create(b remote.Backend, path, text string) error {
	_, err := b.Put(s.Context(), path, remotetest.Bytes([]byte(text)), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	return err
}

func (s *stage) remove(k *keep.Backend, paths ...string) {
	s.Helper()
	for _, path := range paths {
		if err := k.Remove(s.Context(), path, remote.RemoveOptions{Type: remote.File}); err != nil {
			s.Errorf("remove %s: %v", path, err)
		}
	}
}

// shows returns what a client shows in /d, with its bytes.
func (s *stage) shows(k *keep.Backend) map[string]string {
	s.Helper()
	var all []remote.Entry
	if err := k.List(s.Context(), "/d", func(e remote.Entry) error { all = append(all, e); return nil }); err != nil {
		s.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range all {
		text, err := readEntry(s.Context(), k, e)
		if err != nil {
			s.Errorf("%s: %v", e.Path, err)
		}
		got[e.Path] = text
	}
	return got
}

// wantTexts wants each of some texts to show once, under its name or as a conflict of it,
// and no others but maybe some.
func (s *stage) wantTexts(want map[string]string, maybe ...string) {
	s.Helper()
	got := s.shows(s.client(nil))
	for path, text := range want {
		n := 0
		for shown, is := range got {
			if is == text && named(path, shown) {
				n++
			}
		}
		if n != 1 {
			s.Errorf("%q of %s shows %d times in %.300q", text[:min(len(text), 20)], path, n, fmt.Sprint(got))
		}
	}
	texts := slices.AppendSeq(maybe, maps.Values(want))
	for path, text := range got {
		if !slices.Contains(texts, text) {
			s.Errorf("%s shows: %.40q", path, text)
		}
	}
}

// sixFiles are worth compacting when most of them are gone.
func sixFiles() map[string]string {
	files := map[string]string{}
	for i := range 6 {
		files[fmt.Sprintf("/d/f%d", i)] = fmt.Sprintf("%d of six ", i) + string(remotetest.Pattern(40<<10, byte(i)))
	}
	return files
}

// TestCaseOlderComesLate has the archive of a slow client, whose id is older, land after
// another client was told that its files are stored. The slow client then dies.
func TestCaseOlderComesLate(t *testing.T) {
	s := newStage(t)
	var dead atomic.Bool
	quick := map[string]string{"/d/a": "quick 1", "/d/b": "quick 2"}
	slow := s.client(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if dead.Load() {
			return c.Fail(remote.Unavailable, errExplored)
		}
		if c.Op == remote.OpPut && isZip(c.Path) {
			s.store(s.client(nil), quick)
			err := next(ctx)
			dead.Store(true)
			return err
		}
		return next(ctx)
	})
	for path, err := range s.storeSome(slow, map[string]string{"/d/a": "slow 1", "/d/z": "slow 2"}) {
		if err == nil {
			t.Errorf("%s is told to be stored by a client that could not look", path)
		}
	}
	s.wantTexts(quick, "slow 1", "slow 2")
}

// TestCaseTwoCompactions has a client remove files of an archive that another compacts, on
// a server that does not remove archives at first.
func TestCaseTwoCompactions(t *testing.T) {
	s := newStage(t)
	want := sixFiles()
	s.store(s.client(nil), want)
	others := map[string]string{"/d/x": "x", "/d/y": "y", "/d/w": "w"}
	s.store(s.client(nil), others)
	maps.Copy(want, others)
	refused, inside, met := 0, false, false
	first := s.client(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpRemove && isZip(c.Path) && refused < 3 {
			refused++
			return c.Fail(remote.Unavailable, errExplored)
		}
		if c.Op == remote.OpPut && isZip(c.Path) && !inside {
			inside, met = true, true
			s.remove(s.client(nil), "/d/y", "/d/f4")
			err := next(ctx)
			inside = false
			return err
		}
		return next(ctx)
	})
	s.remove(first, "/d/f0", "/d/f1", "/d/f2", "/d/f3", "/d/x")
	for _, gone := range []string{"/d/f0", "/d/f1", "/d/f2", "/d/f3", "/d/x"} {
		delete(want, gone)
	}
	if met {
		delete(want, "/d/y")
		delete(want, "/d/f4")
	}
	s.wantTexts(want)
	if !met {
		t.Error("nothing was compacted")
	}
}

// TestCaseListWhileOverwriting has a listing run while its own client replaces a member.
func TestCaseListWhileOverwriting(t *testing.T) {
	s := newStage(t)
	s.store(s.client(nil), map[string]string{"/d/a": "old", "/d/b": "b"})
	var once atomic.Bool
	var k *keep.Backend
	k = s.client(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpList && once.CompareAndSwap(true, false) {
			if _, err := k.Put(ctx, "/d/a", remotetest.Bytes([]byte("new")), remote.PutOptions{}); err != nil {
				t.Error(err)
			}
		}
		return err
	})
	s.shows(k)
	once.Store(true)
	got := map[string]bool{}
	if err := k.List(t.Context(), "/d", func(e remote.Entry) error { got[e.Path] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if !got["/d/a"] || once.Load() {
		t.Errorf("what shows is %v", got)
	}
	s.wantTexts(map[string]string{"/d/a": "new", "/d/b": "b"})
}

// TestCaseUnreadable has an archive that cannot be read: if that may pass, the listing
// fails; otherwise its file shows, and the others of the directory do.
func TestCaseUnreadable(t *testing.T) {
	for _, kind := range []remote.Kind{remote.Locked, remote.Unavailable, remote.Permission, remote.Corrupt} {
		s := newStage(t)
		s.store(s.client(nil), map[string]string{"/d/a": "a", "/d/b": "b"})
		if err := s.create(s.server, "/d/plain", "p"); err != nil {
			t.Fatal(err)
		}
		reads := 0
		k := s.client(func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpRead && isZip(c.Path) {
				reads++
				return c.Fail(kind, nil)
			}
			return next(ctx)
		})
		got := map[string]bool{}
		err := k.List(t.Context(), "/d", func(e remote.Entry) error { got[e.Path] = true; return nil })
		passes := kind == remote.Locked || kind == remote.Unavailable
		zips := slices.ContainsFunc(slices.Collect(maps.Keys(got)), isZip)
		if passes && !errors.Is(err, kind) || !passes && (err != nil || !got["/d/plain"] || !zips) || reads == 0 {
			t.Errorf("%v: what shows is %v, %v", kind, got, err)
		}
		if err := s.create(k, "/d/a", "other"); passes && err == nil {
			t.Errorf("%v: a file was told to be new whose name could not be looked for", kind)
		}
		err = k.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir})
		if err == nil {
			t.Errorf("%v: the directory was told to be empty", kind)
		}
		s.wantTexts(map[string]string{"/d/a": "a", "/d/b": "b", "/d/plain": "p"}, "other")
	}
}

// TestCaseNothingGoesPast wants every ability of the server to be one of the client itself.
func TestCaseNothingGoesPast(t *testing.T) {
	k := newStage(t).client(nil)
	past := func(name string, ability any, ok bool) {
		if ok && ability != any(k) {
			t.Errorf("%s goes past the archives, to %T", name, ability)
		}
	}
	attr, ok := remote.As[remote.AttrSetter](k)
	past("AttrSetter", attr, ok)
	link, ok := remote.As[remote.Symlinker](k)
	past("Symlinker", link, ok)
	opener, ok := remote.As[remote.Opener](k)
	past("Opener", opener, ok)
	xattr, ok := remote.As[remote.Xattrer](k)
	past("Xattrer", xattr, ok)
	replicas, ok := remote.As[remote.Replicator](k)
	past("Replicator", replicas, ok)
	tree, ok := remote.As[remote.TreeRemover](k)
	past("TreeRemover", tree, ok)
	tracker, ok := remote.As[remote.Tracker](k)
	past("Tracker", tracker, ok)
	growing, ok := remote.As[remote.GrowingPutter](k)
	past("GrowingPutter", growing, ok)
	patcher, ok := remote.As[remote.Patcher](k)
	past("Patcher", patcher, ok)
	sweeper, ok := remote.As[remote.Sweeper](k)
	past("Sweeper", sweeper, ok)
	batcher, ok := remote.As[remote.Batcher](k)
	past("Batcher", batcher, ok)
	bundler, ok := remote.As[remote.Bundler](k)
	past("Bundler", bundler, ok)
	pruner, ok := remote.As[remote.Pruner](k)
	past("Pruner", pruner, ok)
}

// TestCaseFuture has an archive whose id is of a time that is yet to come.
func TestCaseFuture(t *testing.T) {
	s := newStage(t)
	future := map[string]string{"/d/q": "q", "/d/r": "r"}
	s.store(s.client(nil), future)
	synctest.Test(t, func(t *testing.T) { // in which it is the year 2000
		files := map[string]string{"/d/q": "late", "/d/s": "s", "/d/t": "t"}
		for path, err := range s.storeSome(s.client(nil), files) {
			if want := map[string]error{"/d/q": remote.Exist}[path]; !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
		}
		s.remove(s.client(nil), "/d/r")
	})
	s.wantTexts(map[string]string{"/d/q": "q", "/d/s": "s", "/d/t": "t"})
}

// TestCaseManyRemovals removes members one by one: the directory is not listed for each.
func TestCaseManyRemovals(t *testing.T) {
	s := newStage(t)
	const n = 60
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("/d/f%02d", i)] = strings.Repeat("x", i)
	}
	s.store(s.client(nil), files)
	var lists, all atomic.Int64
	k := s.client(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if all.Add(1); c.Op == remote.OpList {
			lists.Add(1)
		}
		return next(ctx)
	})
	entries := map[string]remote.Entry{}
	if err := k.List(t.Context(), "/d", func(e remote.Entry) error { entries[e.Path] = e; return nil }); err != nil {
		t.Fatal(err)
	}
	for path := range files {
		if err := k.Remove(t.Context(), path, remote.RemoveOptions{Type: remote.File, Version: entries[path].Version}); err != nil {
			t.Error(err)
		}
	}
	if lists.Load() > n/4 || all.Load() > 4*n {
		t.Errorf("%d removals took %d requests, %d of them listings", n, all.Load(), lists.Load())
	}
	s.wantTexts(nil)
}

// TestCasePackLosesAnAnswer has the removal of a file that was packed be carried out, and
// told to have failed.
func TestCasePackLosesAnAnswer(t *testing.T) {
	s := newStage(t)
	want := map[string]string{"/d/a": "text of a", "/d/b": "text of b", "/d/c": "text of c"}
	for path, text := range want {
		if err := s.create(s.server, path, text); err != nil {
			t.Fatal(err)
		}
	}
	f := remotetest.Faulty(s.server, remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpRemove}, Count: 1, Fault: remotetest.FaultLost}}})
	if _, err := keep.Wrap(f, keep.Options{}).Pack(t.Context(), "/d", 1<<20); err != nil {
		t.Error(err)
	}
	if f.Injected() != 1 {
		t.Errorf("%d answers were lost", f.Injected())
	}
	s.wantTexts(want)
}
