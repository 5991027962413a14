package keep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// bed is a server with clients.
type bed struct {
	*testing.T
	server *memory.Backend
}

func newBed(t *testing.T) *bed {
	b := &bed{t, memory.New(memory.Options{})}
	t.Cleanup(func() { _ = b.server.Close() })
	if _, err := b.server.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	return b
}

// client returns a client that has seen nothing yet.
func (b *bed) client() *keep.Backend { return keep.Wrap(b.server, keep.Options{}) }

// items makes files of the given contents by path, in order.
func items(files map[string]string) (all []remote.BatchItem) {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		all = append(all, remote.BatchItem{Path: path, Source: remotetest.Bytes([]byte(files[path]))})
	}
	return all
}

// batch stores files and wants all of them to be.
func (b *bed) batch(k remote.Batcher, files map[string]string) {
	b.Helper()
	got, err := k.PutBatch(b.Context(), items(files))
	for _, r := range got {
		err = errors.Join(err, r.Err)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) put(k remote.Backend, path, content string) remote.Entry {
	b.Helper()
	e, err := k.Put(b.Context(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// content reads a file as it was listed.
func content(ctx context.Context, k remote.Backend, e remote.Entry) (string, error) {
	p := make([]byte, e.Size)
	n, err := k.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if err == io.EOF && int64(n) == e.Size {
		err = nil
	}
	return string(p[:n]), err
}

// tree returns what a client shows: the contents of files by their paths, directories with
// a slash at the end. A name that shows twice is an error.
func tree(t *testing.T, k remote.Backend, dir string) map[string]string {
	t.Helper()
	var entries []remote.Entry
	if err := k.List(t.Context(), dir, func(e remote.Entry) error { entries = append(entries, e); return nil }); err != nil {
		t.Fatalf("list %s: %v", dir, err)
	}
	all := map[string]string{}
	for _, e := range entries {
		if _, twice := all[e.Path]; twice {
			t.Errorf("%s shows twice", e.Path)
		}
		if e.Type == remote.Dir {
			all[e.Path+"/"] = ""
			maps.Copy(all, tree(t, k, e.Path))
			continue
		}
		text, err := content(t.Context(), k, e)
		if err != nil {
			t.Fatalf("read of %s: %v", e.Path, err)
		}
		all[e.Path] = text
		if now, err := k.Stat(t.Context(), e.Path); err != nil || now.Version != e.Version || now.Size != e.Size {
			t.Errorf("%s is listed as %+v, a look shows %+v, %v", e.Path, e, now, err)
		}
	}
	return all
}

func (b *bed) wantTree(k remote.Backend, want map[string]string) {
	b.Helper()
	if got := tree(b.T, k, "/d"); !maps.Equal(got, want) {
		b.Errorf("shown is %.200q, want %.200q", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// raw returns how many archives, tombstones and others the server has in a directory.
func (b *bed) raw(dir string) (archives []remote.Entry, tombs, others int) {
	b.Helper()
	err := b.server.List(b.Context(), dir, func(e remote.Entry) error {
		_, name := remote.Split(e.Path)
		switch _, isTomb := archive.ParseTombstone(name); {
		case isTomb:
			tombs++
		case archive.Hidden(name):
			archives = append(archives, e)
		default:
			others++
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return archives, tombs, others
}

func (b *bed) wantRaw(dir string, archives, tombs, others int) {
	b.Helper()
	if a, t, o := b.raw(dir); len(a) != archives || t != tombs || o != others {
		b.Errorf("%s has %d archives, %d tombstones and %d others, want %d, %d, %d", dir, len(a), t, o, archives, tombs, others)
	}
}

func wantKind(t *testing.T, err error, kind remote.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%v, want %v", err, kind)
	}
}

var (
	file = remote.RemoveOptions{Type: remote.File}
	dir  = remote.RemoveOptions{Type: remote.Dir}
)

// three are three small files.
var three = map[string]string{"/d/a": "alpha", "/d/b": "beta", "/d/c": ""}

func TestBatchIsOneArchive(t *testing.T) {
	b := newBed(t)
	k := b.client()
	b.batch(k, three)
	b.wantRaw("/d", 1, 0, 0)
	b.wantTree(k, three)
	b.wantTree(b.client(), three)
	got, err := k.PutBatch(t.Context(), items(map[string]string{"/d/a": "again", "/d/e": "new", "/d/f": "new"}))
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, got[0].Err, remote.Exist)
	if got[1].Err != nil || got[2].Err != nil {
		t.Errorf("%v, %v", got[1].Err, got[2].Err)
	}
	b.wantRaw("/d", 2, 0, 0)
	b.batch(k, map[string]string{"/d/alone": "one file is a plain file"})
	b.wantRaw("/d", 2, 0, 1)
	if _, err := b.client().Put(t.Context(), "/d/b", remotetest.Bytes(nil), remote.PutOptions{Cond: remote.Cond{NotExist: true}}); !errors.Is(err, remote.Exist) {
		t.Errorf("an exclusive create over a member: %v", err)
	}
}

// TestHidden wants our own files to be out of reach.
func TestHidden(t *testing.T) {
	b := newBed(t)
	k := b.client()
	b.batch(k, three)
	archives, _, _ := b.raw("/d")
	for _, path := range []string{archives[0].Path, "/d/" + archive.UID{Archive: archive.NewID(time.Now()), Number: 1}.Tombstone()} {
		_, err := k.Stat(t.Context(), path)
		wantKind(t, err, remote.NotExist)
		_, err = k.ReadAt(t.Context(), remote.Ref{Path: path, Size: -1}, make([]byte, 1), 0)
		wantKind(t, err, remote.NotExist)
		wantKind(t, k.Remove(t.Context(), path, file), remote.NotExist)
		wantKind(t, k.Rename(t.Context(), path, "/d/x", remote.RenameOptions{}), remote.NotExist)
		wantKind(t, k.Rename(t.Context(), "/d/a", path, remote.RenameOptions{}), remote.Invalid)
		_, err = k.Mkdir(t.Context(), path)
		wantKind(t, err, remote.Invalid)
		_, err = k.Put(t.Context(), path, remotetest.Bytes(nil), remote.PutOptions{})
		wantKind(t, err, remote.Invalid)
	}
	b.wantTree(k, three)
}

// TestDirectoryCarriesThem renames and removes the directory behind the client's back.
func TestDirectoryCarriesThem(t *testing.T) {
	b := newBed(t)
	k := b.client()
	b.batch(k, three)
	if err := b.server.Rename(t.Context(), "/d", "/e", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range three {
		path = strings.Replace(path, "/d/", "/e/", 1)
		e, err := k.Stat(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := content(t.Context(), k, e); err != nil || got != want {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
	}
	if err := k.RemoveTree(t.Context(), "/e"); err != nil {
		t.Fatal(err)
	}
	_, err := k.Stat(t.Context(), "/e/a")
	wantKind(t, err, remote.NotExist)
}

// TestEmptied removes all members by one client, and the directory by another.
func TestEmptied(t *testing.T) {
	b := newBed(t)
	k := b.client()
	b.batch(k, three)
	wantKind(t, k.Remove(t.Context(), "/d", dir), remote.NotEmpty)
	for path := range three {
		if err := k.Remove(t.Context(), path, file); err != nil {
			t.Fatal(err)
		}
		wantKind(t, k.Remove(t.Context(), path, file), remote.NotExist)
	}
	b.wantTree(b.client(), map[string]string{})
	b.wantRaw("/d", 2, 3, 0) // the archive and its grave
	if err := b.client().Remove(t.Context(), "/d", dir); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged shows what is no archive as the file that it is.
func TestDamaged(t *testing.T) {
	b := newBed(t)
	k := b.client()
	b.batch(k, three)
	archives, _, _ := b.raw("/d")
	whole, err := content(t.Context(), b.server, archives[0])
	if err != nil {
		t.Fatal(err)
	}
	b.batch(k, map[string]string{"/d/x": "x", "/d/y": "y"})
	for what, bad := range map[string]string{"empty": "", "cut": whole[:len(whole)-5], "text": "no zip", "changed": strings.Replace(whole, `"format":2`, `"format":7`, 1)} {
		e := b.put(b.server, archives[0].Path, bad)
		fresh := b.client()
		b.wantTree(fresh, map[string]string{e.Path: bad, "/d/x": "x", "/d/y": "y"})
		wantKind(t, fresh.Remove(t.Context(), "/d", dir), remote.NotEmpty)
		if err := fresh.Remove(t.Context(), "/d/x", file); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.batch(fresh, map[string]string{"/d/x": "x"})
	}
	b.put(b.server, archives[0].Path, whole)
	b.wantTree(b.client(), map[string]string{"/d/a": "alpha", "/d/b": "beta", "/d/c": "", "/d/x": "x", "/d/y": "y"})
	fresh := b.client()
	e, err := fresh.Stat(t.Context(), "/d/a")
	if err != nil {
		t.Fatal(err)
	}
	b.put(b.server, archives[0].Path, strings.Replace(whole, "alpha", "alphA", 1))
	if _, err := content(t.Context(), b.client(), e); !errors.Is(err, remote.Corrupt) {
		t.Errorf("bytes that are not those that were stored: %v", err)
	}
}

// TestAttributes keeps what a member has when it becomes a plain file.
func TestAttributes(t *testing.T) {
	b := newBed(t)
	k := b.client()
	when, mode := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC), uint32(0o751)
	all := items(three)
	for i := range all {
		all[i].Attrs = remote.Attrs{MTime: &when, Mode: &mode}
	}
	if _, err := k.PutBatch(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	old, err := k.Stat(t.Context(), "/d/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetXattr(t.Context(), "/d/a", memory.XattrPrefix+"x", []byte("value"), remote.XattrAny); err != nil {
		t.Fatal(err)
	}
	if err := k.Rename(t.Context(), "/d/b", "/d/renamed", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	b.wantRaw("/d", 1, 2, 2)
	for _, path := range []string{"/d/a", "/d/renamed", "/d/c"} {
		if e, err := b.client().Stat(t.Context(), path); err != nil || !e.MTime.Equal(when) || e.Mode != mode {
			t.Errorf("%s: %+v, %v", path, e, err)
		}
	}
	if all, err := k.Xattrs(t.Context(), "/d/a"); err != nil || !bytes.Equal(all[memory.XattrPrefix+"x"], []byte("value")) {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := k.Xattrs(t.Context(), "/d/c"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	wantKind(t, k.RemoveXattr(t.Context(), "/d/c", memory.XattrPrefix+"x"), remote.NoXattr)
	if got, err := content(t.Context(), k, old); err != nil || got != "alpha" {
		t.Errorf("the version of before: %q, %v", got, err)
	}
	_, err = k.Patch(t.Context(), "/d/c", remote.Patch{}, remote.PutOptions{Cond: remote.Cond{Version: version(t, k, "/d/c")}})
	wantKind(t, err, remote.Unsupported)
}

// version returns the version of a file.
func version(t *testing.T, k remote.Backend, path string) string {
	t.Helper()
	e, err := k.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return e.Version
}

// TestWindows reads all members of an archive by many readers: it takes few requests, and
// bytes that were damaged on the way are asked for again.
func TestWindows(t *testing.T) {
	b := newBed(t)
	files := map[string]string{}
	for i := range 120 {
		files[fmt.Sprintf("/d/f%03d", i)] = string(remotetest.Pattern(16<<10+i, byte(i)))
	}
	b.batch(b.client(), files)
	var reads, spoilt atomic.Int64
	counting := remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.Op == remote.OpRead && c.N > 0 && reads.Add(1) > 5 && spoilt.CompareAndSwap(0, 1) {
			c.Buf[c.N/2] ^= 1
		}
		return err
	})
	k := keep.Wrap(counting, keep.Options{})
	b.wantTree(k, files)
	if n := reads.Load(); n > 20 || spoilt.Load() == 0 {
		t.Errorf("%d requests for %d files", n, len(files))
	}
	k = keep.Wrap(counting, keep.Options{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for path, want := range files {
				e, err := k.Stat(t.Context(), path)
				if err != nil {
					t.Error(err)
				} else if got, err := content(t.Context(), k, e); err != nil || got != want {
					t.Errorf("%s holds %d bytes, %v", path, len(got), err)
				}
			}
		})
	}
	all.Wait()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := content(t.Context(), k, remote.Entry{Path: "/d/f001", Version: "x"})
	wantKind(t, err, remote.BadHandle)
}
