package keep_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestUnpackAndPack turns members into files and back, with their times and modes.
func TestUnpackAndPack(t *testing.T) {
	b := newBed(t)
	k := b.client()
	want := map[string]string{"/d/sub/": ""}
	if _, err := k.Mkdir(t.Context(), "/d/sub"); err != nil {
		t.Fatal(err)
	}
	when, mode := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC), uint32(0o751)
	for round := range 3 {
		files := map[string]string{}
		for i := range 5 {
			files[fmt.Sprintf("/d/%d-%d", round, i)] = strings.Repeat("x", i)
			files[fmt.Sprintf("/d/sub/%d-%d", round, i)] = strings.Repeat("y", i*1000)
		}
		all := items(files)
		for i := range all {
			all[i].Attrs = remote.Attrs{MTime: &when, Mode: &mode}
		}
		if _, err := k.PutBatch(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		maps.Copy(want, files)
	}
	gone := []string{"/d/0-0", "/d/sub/1-1"}
	if err := remove(gone...)(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	delete(want, gone[0])
	delete(want, gone[1])
	b.put(k, "/d/1-1", "overwritten")
	want["/d/1-1"] = "overwritten"
	reader := b.client()
	old, err := reader.Stat(t.Context(), "/d/sub/2-4")
	if err != nil {
		t.Fatal(err)
	}
	done, err := b.client().Unpack(t.Context(), "/")
	if err != nil || done.Files != 27 || done.Archives != 6 || len(done.Left) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	b.wantRaw("/d", 0, 0, 15)
	b.wantRaw("/d/sub", 0, 0, 14)
	b.wantTree(b.server, want)
	b.wantTree(reader, want)
	if got, err := content(t.Context(), reader, old); err != nil || got != want[old.Path] {
		t.Errorf("the version of before: %d bytes, %v", len(got), err)
	}
	// Who has seen the member may replace the file that it is now, but no other.
	cond := remote.Cond{Version: old.Version}
	if err := put(old.Path, "replaced", cond)(t.Context(), reader); err != nil {
		t.Errorf("a put over what was unpacked: %v", err)
	}
	wantKind(t, put(old.Path, "again", cond)(t.Context(), reader), remote.Conflict)
	wantKind(t, reader.Remove(t.Context(), old.Path, remote.RemoveOptions{Type: remote.File, Version: old.Version}), remote.Conflict)
	want[old.Path] = "replaced"
	if e, err := b.server.Stat(t.Context(), "/d/sub/2-3"); err != nil || !e.MTime.Equal(when) || e.Mode != mode {
		t.Errorf("%+v, %v", e, err)
	}
	if done, err = k.Unpack(t.Context(), "/"); err != nil || done.Files+done.Archives != 0 {
		t.Errorf("again: %+v, %v", done, err)
	}
	if err := b.server.SetXattr(t.Context(), "/d/2-2", memory.XattrPrefix+"x", []byte("1"), remote.XattrAny); err != nil {
		t.Fatal(err)
	}
	done, err = k.Pack(t.Context(), "/d", 3000)
	if err != nil || done.Files != 13+12 || done.Archives != 2 || len(done.Left) != 1 || done.Left[0].Path != "/d/2-2" || !strings.Contains(done.Left[0].Err.Error(), "extended attributes") {
		t.Errorf("%+v, %v", done, err)
	}
	b.wantTree(b.client(), want)
	b.wantRaw("/d", 1, 0, 2)
	b.wantRaw("/d/sub", 1, 0, 2)
	if e, err := k.Stat(t.Context(), "/d/sub/2-3"); err != nil || !e.MTime.Equal(when) || e.Mode != mode {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestConversionCrashes ends both conversions at each of their requests: nothing is lost,
// nothing shows twice, and a second run ends the work.
func TestConversionCrashes(t *testing.T) {
	type convert func(k *keep.Backend) (keep.Converted, error)
	for name, do := range map[string]convert{
		"unpack": func(k *keep.Backend) (keep.Converted, error) { return k.Unpack(t.Context(), "/") },
		"pack":   func(k *keep.Backend) (keep.Converted, error) { return k.Pack(t.Context(), "/", 1<<20) },
	} {
		want := map[string]string{"/d/a": "alpha", "/d/b": "beta", "/d/c": "", "/d/e": "plain", "/d/f": "also plain"}
		n := 0
		for over := false; !over; n++ {
			b := newBed(t)
			b.batch(b.client(), three)
			b.put(b.server, "/d/e", want["/d/e"])
			b.put(b.server, "/d/f", want["/d/f"])
			faulty := remotetest.Faulty(b.server, remotetest.Plan{Rules: []remotetest.Rule{
				{Skip: n, Count: 1, Fault: remotetest.FaultLost}, {Skip: n, Fault: remotetest.FaultError},
			}})
			done, err := do(keep.Wrap(faulty, keep.Options{}))
			over = faulty.Injected() == 0
			if over != (err == nil && len(done.Left) == 0) {
				t.Errorf("%s, %d: %+v, %v", name, n, done, err)
			}
			b.wantTree(b.client(), want)
			if done, err := do(b.client()); err != nil || len(done.Left) > 0 {
				t.Errorf("%s, %d, again: %+v, %v", name, n, done, err)
			}
			b.wantTree(b.client(), want)
			if archives, tombs, others := b.raw("/d"); name == "unpack" && (len(archives) > 0 || tombs > 0 || others != 5) || name == "pack" && others > 1 {
				t.Errorf("%s, %d: %d archives, %d tombstones, %d files", name, n, len(archives), tombs, others)
			}
		}
		if n < 5 {
			t.Errorf("%s: only %d requests were cut off", name, n)
		}
	}
}

// TestPackLeavesWhatChanges has a file overwritten while it is packed.
func TestPackLeavesWhatChanges(t *testing.T) {
	b := newBed(t)
	for path, text := range three {
		b.put(b.server, path, text)
	}
	between := remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpRemove && c.Path == "/d/a" {
			b.put(b.server, "/d/a", "of somebody else")
		}
		return next(ctx)
	})
	done, err := keep.Wrap(between, keep.Options{}).Pack(t.Context(), "/", 1<<20)
	if err != nil || done.Files != 2 || len(done.Left) != 1 || !errors.Is(done.Left[0].Err, remote.Conflict) {
		t.Errorf("%+v, %v", done, err)
	}
	b.wantTree(b.client(), map[string]string{"/d/a": "of somebody else", "/d/b": "beta", "/d/c": ""})
	if err := b.server.Remove(t.Context(), "/d/a", file); err != nil {
		t.Fatal(err)
	}
	b.wantTree(b.client(), map[string]string{"/d/b": "beta", "/d/c": ""})
}

// TestUnpackLeavesDamage tells of an archive that it cannot read, and leaves it.
func TestUnpackLeavesDamage(t *testing.T) {
	b := newBed(t)
	b.batch(b.client(), three)
	archives, _, _ := b.raw("/d")
	b.batch(b.client(), map[string]string{"/d/x": "x", "/d/y": "y"})
	b.put(b.server, archives[0].Path, "no zip")
	done, err := b.client().Unpack(t.Context(), "/")
	if err != nil || done.Files != 2 || len(done.Left) != 1 || done.Left[0].Path != archives[0].Path {
		t.Errorf("%+v, %v", done, err)
	}
	b.wantTree(b.server, map[string]string{"/d/x": "x", "/d/y": "y", archives[0].Path: "no zip"})
}
