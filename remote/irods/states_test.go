package irods

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// tear leaves an object torn: its writer wrote some bytes and died.
func leaveTorn(t testing.TB, z *zone.Zone, path, bytes string, flags int) {
	t.Helper()
	writer := connect(t, z, "alice")
	writer.write(writer.open(path, flags), bytes)
	_ = writer.conn.Close()
	alice := connect(t, z, "alice")
	_, name := splitFull(path)
	eventually(t, "the end of the writer", func() bool { return strings.Contains(alice.replicas(name), " 0 ") })
}

// read reads all of what an entry describes.
func readEntry(t testing.TB, b remote.Backend, e remote.Entry) error {
	t.Helper()
	n, err := b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, make([]byte, max(e.Size, 1)), 0)
	if err == io.EOF && int64(n) == e.Size {
		return nil
	}
	return err
}

// TestTorn finds objects whose writers died: they are shown, never read, and can be
// removed, renamed and written again.
func TestTorn(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	ctx := t.Context()
	for i, c := range []struct {
		before, bytes string
		flags         int
	}{
		{"", "", newFile}, {"", "half", newFile}, {"old content", "half", wire.OpenWriteOnly},
		{"old content", "half", wire.OpenWriteOnly | wire.OpenTruncate}, {"old content", "", wire.OpenWriteOnly | wire.OpenTruncate},
	} {
		path := fmt.Sprintf("/f%d", i)
		make := func() remote.Entry {
			var before remote.Entry
			if c.before != "" {
				before = put(t, b, path, c.before, remote.PutOptions{})
			}
			leaveTorn(t, z, b.full(path), c.bytes, c.flags)
			e := stat(t, b, path)
			if e.Version == before.Version || e.Checksum != (remote.Checksum{}) || names(t, b, "/")[path] != e {
				t.Errorf("case %d: before %+v, torn %+v, listed %+v", i, before, e, names(t, b, "/")[path])
			}
			wantKind(t, readEntry(t, b, e), remote.Corrupt, "case %d: a read", i)
			wantKind(t, readEntry(t, b, remote.Entry{Path: path, Size: -1}), remote.Corrupt, "case %d: a read of any version", i)
			if before.Version != "" {
				wantKind(t, readEntry(t, b, before), remote.Changed, "case %d: a read of the old version", i)
			}
			_, err := b.Put(ctx, path, text("x"), fresh)
			wantKind(t, err, remote.Exist, "case %d: a new file", i)
			return e
		}
		e := make()
		for _, content := range []string{"whole again", ""} {
			if e = put(t, b, path, content, upon(e)); e.Size != int64(len(content)) || contentOf(t, b, path) != content {
				t.Errorf("case %d: written again it is %+v", i, e)
			}
			leaveTorn(t, z, b.full(path), "half", wire.OpenWriteOnly)
			e = stat(t, b, path)
		}
		if err := b.Rename(ctx, path, path+"-moved", remote.RenameOptions{}); err != nil {
			t.Error(err)
		}
		if err := b.Remove(ctx, path+"-moved", remote.RemoveOptions{Type: remote.File}); err != nil {
			t.Error(err)
		}
		e = make()
		if err := b.Remove(ctx, path, remote.RemoveOptions{Type: remote.File, Version: e.Version}); err != nil {
			t.Error(err)
		}
	}
}

// TestLocked meets an object that somebody writes: everything waits, within bounds, and
// attributes go on.
func TestLocked(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	ctx := t.Context()
	alice := connect(t, z, "alice")
	whole := put(t, b, "/f", "content", fresh)
	put(t, b, "/g", "other", fresh)
	desc := alice.open(b.full("/f"), wire.OpenWriteOnly)
	locked := stat(t, b, "/f")
	if !locked.Provisional || locked.Version == whole.Version {
		t.Errorf("before %+v, locked %+v", whole, locked)
	}
	wantKind(t, readEntry(t, b, whole), remote.Locked, "a read of the version before")
	wantKind(t, readEntry(t, b, locked), remote.Locked, "a read of the version shown")
	wantKind(t, readEntry(t, b, remote.Entry{Path: "/f", Size: -1}), remote.Locked, "a read of any version")
	_, err := b.Put(ctx, "/f", text("x"), remote.PutOptions{})
	wantKind(t, err, remote.Locked, "an overwrite")
	wantKind(t, b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File}), remote.Locked, "a removal")
	wantKind(t, b.Rename(ctx, "/f", "/h", remote.RenameOptions{}), remote.Locked, "a rename")
	wantKind(t, b.Rename(ctx, "/g", "/f", remote.RenameOptions{}), remote.Locked, "a rename over it")
	if contentOf(t, b, "/g") != "other" {
		t.Error("the rename has harmed its source")
	}
	patient := remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond, MaxWait: 5 * time.Millisecond, Elapsed: 50 * time.Millisecond, Tries: 1000})
	_, err = patient.Put(ctx, "/f", text("x"), remote.PutOptions{})
	wantKind(t, err, remote.Locked, "an overwrite after the bound")
	done := make(chan error)
	go func() {
		_, err := remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond, Tries: 1e6}).Put(ctx, "/f", text("waited"), remote.PutOptions{})
		done <- err
	}()
	alice.close(desc)
	if err := <-done; err != nil || contentOf(t, b, "/f") != "waited" {
		t.Errorf("an overwrite that waited: %v", err)
	}
}

// TestLockedNew meets a new object that somebody writes: it must not be read as empty.
func TestLockedNew(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	desc := alice.open(b.full("/f"), newFile)
	alice.write(desc, "half")
	e := stat(t, b, "/f")
	wantKind(t, readEntry(t, b, e), remote.Locked, "a read of the version shown, %+v", e)
	if o, err := b.Open(t.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}); err == nil {
		got, err := io.ReadAll(o)
		t.Errorf("streamed are %q, %v", got, err)
		_ = o.Close()
	}
	_, err := b.Put(t.Context(), "/f", text("x"), fresh)
	wantKind(t, err, remote.Exist, "a new file")
	alice.write(desc, " and whole")
	alice.close(desc)
	if got := contentOf(t, b, "/f"); got != "half and whole" {
		t.Errorf("it holds %q", got)
	}
}

// TestStaleReplicas has a stale replica beside a good one, as the first and as the second.
func TestStaleReplicas(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	for i, good := range []string{"demoResc", "resc2"} {
		name := fmt.Sprintf("f%d", i)
		path := "/" + name
		put(t, b, path, "old", fresh)
		alice.replicate(b.full(path), "resc2")
		desc := alice.open(b.full(path), wire.OpenWriteOnly|wire.OpenTruncate, wire.Pair{Key: wire.KwRescName, Value: good})
		alice.write(desc, "new content")
		alice.close(desc)
		if got := strings.Count(alice.replicas(name), " 0 "); got != 1 {
			t.Fatalf("the replicas are %s", alice.replicas(name))
		}
		e := stat(t, b, path)
		if e.Size != 11 || names(t, b, "/")[path] != e || contentOf(t, b, path) != "new content" {
			t.Errorf("good on %s: %+v", good, e)
		}
		part := make([]byte, 4)
		if _, err := b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, part, 4); err != nil || string(part) != "cont" {
			t.Errorf("a part is %q, %v", part, err)
		}
		list, err := b.Replicas(t.Context(), path)
		if err != nil || len(list) != 2 || list[i].State != remote.ReplicaGood || list[1-i].State != remote.ReplicaStale || list[i].Resource != good {
			t.Errorf("replicas: %+v, %v", list, err)
		}
		when := time.Unix(1e9, 0)
		if e, err = b.SetAttr(t.Context(), path, remote.Attrs{MTime: &when}); err != nil || !e.MTime.Equal(when) {
			t.Errorf("with a time: %+v, %v", e, err)
		}
		put(t, b, path, "newer", upon(e))
		if got := contentOf(t, b, path); got != "newer" {
			t.Errorf("overwritten it holds %q", got)
		}
	}
}

// TestModeOfOthers shows the mode that other clients have stored.
func TestModeOfOthers(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	for i, c := range []struct {
		stored int
		want   uint32
		known  bool
	}{{0o640, 0o640, true}, {0o100755, 0o755, true}, {0, 0, false}, {0o40755, 0, false}} {
		path := fmt.Sprintf("/f%d", i)
		in := input(b.full(path), newFile)
		in.CreateMode = c.stored
		alice.close(alice.do(&wire.Call{API: wire.APIDataObjOpen, In: in}).Status)
		if e := stat(t, b, path); e.ModeKnown != c.known || c.known && e.Mode != c.want {
			t.Errorf("stored as %o it is %o, known: %v", c.stored, e.Mode, e.ModeKnown)
		}
	}
}
