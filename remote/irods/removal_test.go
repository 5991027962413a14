package irods

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// inTrash returns the paths of alice's trash, below its root.
func inTrash(r *raw, z *zone.Zone) []string {
	r.t.Helper()
	trash := "/" + z.Name() + "/trash/home/alice"
	rows := r.rows([]int{wire.ColCollName, wire.ColDataName}, wire.Where{Column: wire.ColCollName, Cond: wire.Like(trash + "%")})
	for i, row := range rows {
		coll, name, _ := strings.Cut(row, " ")
		rows[i] = strings.TrimPrefix(coll+"/"+name, trash)
	}
	return rows
}

// TestTrash removes files and trees with the trash and without.
func TestTrash(t *testing.T) {
	for _, use := range []bool{false, true} {
		z := startZone(t, zone.Options{})
		opts := options(z, z.Addr())
		opts.Trash = use
		b := dial(t, opts)
		alice := connect(t, z, "alice")
		ctx := t.Context()
		for range 2 { // the second time the names in the trash are taken
			put(t, b, "/f", "content", fresh)
			mkdir(t, b, "/d", "/d/sub", "/empty")
			put(t, b, "/d/sub/g", "content", fresh)
			if err := b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Fatal(err)
			}
			if err := b.Remove(ctx, "/empty", remote.RemoveOptions{Type: remote.Dir}); err != nil {
				t.Fatal(err)
			}
			if err := b.RemoveTree(ctx, "/d"); err != nil {
				t.Fatal(err)
			}
			if all := names(t, b, "/"); len(all) != 0 {
				t.Errorf("trash %v: left are %v", use, all)
			}
		}
		got := inTrash(alice, z)
		want := 0
		if use {
			want = 4 // two files, and two in trees
		}
		if len(got) != want {
			t.Errorf("trash %v: in it are %q", use, got)
		}
		// What is replaced or of no use does not go there.
		put(t, b, "/a", "a", fresh)
		put(t, b, "/b", "b", fresh)
		if err := b.Rename(ctx, "/a", "/b", remote.RenameOptions{}); err != nil {
			t.Fatal(err)
		}
		if now := inTrash(alice, z); len(now) != want {
			t.Errorf("trash %v: after a rename there are %q", use, now)
		}
	}
}

// TestRemoveTreeGoesOn removes some hundred objects in one call, during which the server
// waits for an answer again and again. Each counts as progress.
func TestRemoveTreeGoesOn(t *testing.T) {
	z := startZone(t, zone.Options{})
	many(t, z, 300)
	inner := dial(t, options(z, z.Addr()))
	mkdir(t, inner, "/tree")
	alice := connect(t, z, "alice")
	var calls []*wire.Call
	for i := range 300 {
		name := fmt.Sprintf("/object-%05d", i)
		calls = append(calls, move{from: inner.full(name), to: inner.full("/tree" + name)}.call())
	}
	if _, err := alice.conn.Pipeline(t.Context(), calls); err != nil {
		t.Fatal(err)
	}
	ticks := 0
	ctx := remote.WithProgress(t.Context(), func() { ticks++ })
	got := counted(z, func() {
		if err := inner.RemoveTree(ctx, "/tree"); err != nil {
			t.Error(err)
		}
	})
	if ticks < 300/10 {
		t.Errorf("%d signs of progress for 300 objects", ticks)
	}
	if got["remove collection"] != 1 || got["unlink"] != 0 {
		t.Errorf("it took %v", got)
	}
	if all := names(t, inner, "/"); len(all) != 0 {
		t.Errorf("left are %v", all)
	}
}

// TestRemoveTreeStuck removes a tree with an object that somebody writes: the rest goes,
// the error says that, and a second removal ends it.
func TestRemoveTreeStuck(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d", "/d/sub")
	put(t, b, "/d/free", "content", fresh)
	put(t, b, "/d/sub/locked", "content", fresh)
	alice := connect(t, z, "alice")
	desc := alice.open(b.full("/d/sub/locked"), wire.OpenWriteOnly)
	err := b.RemoveTree(t.Context(), "/d")
	if err == nil || !unsure(err) {
		t.Errorf("with a locked object: %v", err)
	}
	if all := names(t, b, "/d"); len(all) != 1 {
		t.Errorf("left are %v", all)
	}
	alice.close(desc)
	if err := b.RemoveTree(t.Context(), "/d"); err != nil {
		t.Error(err)
	}
}

// TestDirectoriesAreNotEmptied by anything that removes one.
func TestDirectoriesAreNotEmptied(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d", "/e")
	put(t, b, "/d/f", "content", fresh)
	wantKind(t, b.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir}), remote.NotEmpty, "remove")
	wantKind(t, b.Rename(t.Context(), "/e", "/d", remote.RenameOptions{}), remote.NotEmpty, "rename onto it")
	wantTree(t, b, "afterwards", "/d", "directory", "/d/f", "content", "/e", "directory")
}
