package keep_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// clocked is a server whose clock the test sets.
func clocked(t *testing.T) (*bed, *atomic.Int64) {
	now := new(atomic.Int64)
	now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix())
	b := &bed{t, memory.New(memory.Options{Clock: func() time.Time { return time.Unix(now.Load(), 0) }})}
	t.Cleanup(func() { _ = b.server.Close() })
	if _, err := b.server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	return b, now
}

// generations returns the generations of archives that the server has, as ".0.1".
func (b *bed) generations() (all string) {
	archives, _, _ := b.raw("/d")
	for g := range 5 {
		for _, e := range archives {
			_, name := remote.Split(e.Path)
			if _, n, _ := archive.ParseFileName(name); n == g {
				all += fmt.Sprintf(".%d", g)
			}
		}
	}
	return all
}

func (b *bed) removeAll(k remote.Backend, paths ...string) {
	b.Helper()
	for _, path := range paths {
		if err := k.Remove(b.Context(), path, file); err != nil {
			b.Fatal(err)
		}
	}
}

// TestCompaction removes most of an archive: what is left moves to the next generation and is
// read on. The first one goes a minute later by the server's clock, not ours, and tombstones
// with what they are about.
func TestCompaction(t *testing.T) {
	b, now := clocked(t)
	k, reader := b.client(), b.client()
	files := map[string]string{}
	for i := range 4 {
		files[fmt.Sprintf("/d/f%d", i)] = string(remotetest.Pattern(64<<10, byte(i)))
	}
	b.batch(k, files)
	b.wantTree(reader, files)
	kept, err := reader.Stat(t.Context(), "/d/f3")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/d/f0", "/d/f1", "/d/f2"} {
		b.removeAll(k, path)
		delete(files, path)
	}
	if got := b.generations(); got != ".0.1" {
		t.Fatalf("generations %s", got)
	}
	b.wantTree(b.client(), files)
	now.Add(30)
	more := map[string]string{"/d/x": "x", "/d/y": "y"}
	b.batch(b.client(), more)
	maps.Copy(files, more)
	if got := b.generations(); got != ".0.0.1" {
		t.Errorf("after half a minute: generations %s", got)
	}
	now.Add(40)
	b.removeAll(b.client(), "/d/x") // its listing is from before the tombstone
	b.removeAll(b.client(), "/d/y")
	delete(files, "/d/x")
	delete(files, "/d/y")
	if got := b.generations(); !strings.HasPrefix(got, ".0.1") || strings.Count(got, ".0") != 1 {
		t.Errorf("after more than a minute: generations %s", got)
	}
	if got, err := content(t.Context(), reader, kept); err != nil || got != files["/d/f3"] {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.wantTree(reader, files)
	b.wantTree(b.client(), files)
}

// TestGravesGo wants what is left of dead archives to go in the end.
func TestGravesGo(t *testing.T) {
	b, now := clocked(t)
	b.batch(b.client(), three)
	b.removeAll(b.client(), "/d/a", "/d/b", "/d/c")
	if got := b.generations(); got != ".0.1" {
		t.Fatalf("generations %s", got)
	}
	for _, step := range []struct {
		later time.Duration
		grave bool
		tombs int
	}{{30 * time.Second, true, 3}, {2 * time.Minute, true, 0}, {24 * time.Hour, true, 0}, {8 * 24 * time.Hour, false, 0}} {
		now.Add(int64(step.later / time.Second))
		for i := range 2 { // of the first one the second sees what has gone
			path := fmt.Sprintf("/d/%d-%d-", now.Load(), i)
			b.batch(b.client(), map[string]string{path + "a": "1", path + "b": "2"})
		}
		if _, tombs, _ := b.raw("/d"); tombs != step.tombs || strings.Contains(b.generations(), ".1") != step.grave {
			t.Errorf("after %v: %d tombstones, generations %s, want %+v", step.later, tombs, b.generations(), step)
		}
	}
}

// TestNoCompaction: where the server does not check with a PUT that there is nothing, only
// whole archives go.
func TestNoCompaction(t *testing.T) {
	now := new(atomic.Int64)
	now.Store(1_700_000_000)
	server := memory.New(memory.Options{Clock: func() time.Time { return time.Unix(now.Load(), 0) }})
	b := &bed{t, server}
	if _, err := server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	client := func() *keep.Backend { return keep.Wrap(looking{server}, keep.Options{}) }
	b.batch(client(), three)
	b.removeAll(client(), "/d/a", "/d/b", "/d/c")
	if got := b.generations(); got != ".0" {
		t.Errorf("generations %s", got)
	}
	now.Add(100)
	k := client()
	b.batch(k, map[string]string{"/d/x": "1", "/d/y": "2"})
	if archives, tombs, _ := b.raw("/d"); len(archives) != 1 || tombs != 3 {
		t.Errorf("%d archives and %d tombstones", len(archives), tombs)
	}
	b.wantTree(client(), map[string]string{"/d/x": "1", "/d/y": "2"})
	b.removeAll(k, "/d/x", "/d/y")
	if err := client().Remove(t.Context(), "/d", dir); err != nil {
		t.Error(err)
	}
}

// looking checks conditions by a look only.
type looking struct{ *memory.Backend }

func (l looking) Caps() remote.Caps {
	c := l.Backend.Caps()
	c.Create = remote.GuardLook
	return c
}

// hiding is a server that does not list names that begin with a dot.
type hiding struct{ *memory.Backend }

func (h hiding) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	return h.Backend.List(ctx, dir, func(e remote.Entry) error {
		if _, name := remote.Split(e.Path); strings.HasPrefix(name, ".") {
			return nil
		}
		return yield(e)
	})
}

// TestHidingServer wants plain files, and nothing else, where archives would not be listed.
func TestHidingServer(t *testing.T) {
	server := memory.New(memory.Options{Batches: remote.Batches{Files: 10, Bytes: 1000, Size: 100, Parallel: 1}})
	b := &bed{t, server}
	if _, err := server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	k := keep.Wrap(hiding{server}, keep.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	got, err := k.PutBatch(t.Context(), items(three))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		wantKind(t, r.Err, remote.Unsupported)
	}
	b.wantRaw("/d", 0, 0, 0)
	if n := strings.Count(log.String(), "begin with a dot"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	b.batch(k, three)
	b.wantRaw("/d", 0, 0, 3)
	b.wantTree(k, three)
}

// TestTroubleIsNoEmptiness: an archive that cannot be had now is an error, and one that may
// not be read is a file.
func TestTroubleIsNoEmptiness(t *testing.T) {
	b := newBed(t)
	b.batch(b.client(), three)
	for _, kind := range []remote.Kind{remote.Locked, remote.Unavailable, remote.Other, remote.Permission} {
		k := keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpRead {
				return c.Fail(kind, nil)
			}
			return next(ctx)
		}), keep.Options{})
		n := 0
		err := k.List(t.Context(), "/d", func(remote.Entry) error { n++; return nil })
		if kind == remote.Permission {
			if err != nil || n != 1 {
				t.Errorf("%v: %d entries, %v", kind, n, err)
			}
		} else {
			wantKind(t, err, kind)
		}
		if err := k.Remove(t.Context(), "/d", dir); err == nil {
			t.Errorf("%v: the directory was removed", kind)
		}
	}
	b.wantTree(b.client(), three)
}

// TestCostOfRemovals removes many members one by one: a look and a tombstone each, and a
// listing now and then.
func TestCostOfRemovals(t *testing.T) {
	b := newBed(t)
	files := map[string]string{}
	for i := range 400 {
		files[fmt.Sprintf("/d/f%03d", i)] = fmt.Sprint(i)
	}
	b.batch(b.client(), files)
	var all, listings atomic.Int64
	k := keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		all.Add(1)
		if c.Op == remote.OpList {
			listings.Add(1)
		}
		return next(ctx)
	}), keep.Options{})
	var entries []remote.Entry
	if err := k.List(t.Context(), "/d", func(e remote.Entry) error { entries = append(entries, e); return nil }); err != nil {
		t.Fatal(err)
	}
	all.Store(0)
	for _, e := range entries {
		if err := k.Remove(t.Context(), e.Path, remote.RemoveOptions{Type: remote.File, Version: e.Version}); err != nil {
			t.Fatal(err)
		}
	}
	if n := all.Load(); n > 2*400+10 || listings.Load() > 2 {
		t.Errorf("%d requests, %d of them listings", n, listings.Load())
	}
	if err := k.Remove(t.Context(), "/d", dir); err != nil {
		t.Error(err)
	}
}

// TestTwoOfAName shows both of two files of one name, whoever comes first.
func TestTwoOfAName(t *testing.T) {
	b, now := clocked(t)
	b.batch(b.client(), map[string]string{"/d/a": "one", "/d/b": "b"})
	now.Add(5)
	b.put(b.server, "/d/a", "of a program that knows of no archives")
	k := b.client()
	var other string
	for path, text := range tree(t, k, "/d") {
		if text == "one" {
			other = path
		}
	}
	if !strings.HasPrefix(other, "/d/a.conflict-") {
		t.Fatalf("it shows as %q", other)
	}
	if err := k.Rename(t.Context(), other, "/d/again", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	b.wantTree(b.client(), map[string]string{"/d/a": "of a program that knows of no archives", "/d/b": "b", "/d/again": "one"})
	long := "/d/" + strings.Repeat("ü", 127)
	b.batch(k, map[string]string{long: "long", "/d/c": "c"})
	b.put(b.server, long, "plain")
	for path := range tree(t, b.client(), "/d") {
		if err := remote.CheckPath("list", path); err != nil || len(path) > len("/d/")+255 || strings.ToValidUTF8(path, "") != path {
			t.Errorf("%q: %v", path, err)
		}
	}
}
