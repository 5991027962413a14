package irods

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

func mkdir(t testing.TB, b remote.Backend, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := b.Mkdir(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

// tree returns what is below a directory, files with their content.
func tree(t testing.TB, b remote.Backend, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for path, e := range names(t, b, dir) {
		if e.Type != remote.Dir {
			all[path] = contentOf(t, b, path)
			continue
		}
		all[path] = "directory"
		for below, text := range tree(t, b, path) {
			all[below] = text
		}
	}
	return all
}

func wantTree(t testing.TB, b remote.Backend, what string, want ...string) {
	t.Helper()
	got := tree(t, b, "/")
	for i := 0; i < len(want); i += 2 {
		if got[want[i]] != want[i+1] {
			t.Errorf("%s: %s holds %q, want %q", what, want[i], got[want[i]], want[i+1])
		}
	}
	if len(got) != len(want)/2 {
		t.Errorf("%s: there are %v", what, got)
	}
}

// TestRenameMatrix moves files and directories within and between directories, to names
// that are free, taken there, or taken next to the source.
func TestRenameMatrix(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for _, what := range []string{"file", "dir"} {
		for _, across := range []bool{false, true} {
			for _, there := range []string{"nothing", "same"} {
				for _, here := range []string{"nothing", "file", "dir"} {
					for _, name := range []string{"old", "new"} {
						if here != "nothing" && (!across || name == "old") {
							continue // that would be the target, or the source
						}
						if !across && name == "old" {
							continue // that is the source
						}
						renameCase(t, b, what, across, there, here, name)
					}
				}
			}
		}
	}
}

// renameCase renames /case/from/old, which is a file or directory, to another name or
// directory. there is what is to be replaced, here what has the new name next to the
// source.
func renameCase(t *testing.T, b *Backend, what string, across bool, there, here, name string) {
	t.Helper()
	label := fmt.Sprintf("%s across=%v there=%s here=%s name=%s", what, across, there, here, name)
	mkdir(t, b, "/case", "/case/from", "/case/to")
	place := func(kind, path, text string) {
		switch kind {
		case "file":
			put(t, b, path, text, remote.PutOptions{})
		case "dir":
			mkdir(t, b, path)
		}
	}
	from, to := "/case/from/old", "/case/from/"+name
	if across {
		to = "/case/to/" + name
	}
	place(what, from, "moved")
	if what == "dir" {
		put(t, b, from+"/below", "below", remote.PutOptions{})
	}
	if there == "same" {
		place(what, to, "replaced")
	}
	place(here, "/case/from/new", "neighbour")
	if err := b.Rename(t.Context(), from, to, remote.RenameOptions{}); err != nil {
		t.Fatalf("%s: %v", label, err)
	}
	want := []string{"/case", "directory", "/case/from", "directory", "/case/to", "directory"}
	switch what {
	case "file":
		want = append(want, to, "moved")
	case "dir":
		want = append(want, to, "directory", to+"/below", "below")
	}
	switch here {
	case "file":
		want = append(want, "/case/from/new", "neighbour")
	case "dir":
		want = append(want, "/case/from/new", "directory")
	}
	wantTree(t, b, label, want...)
	if err := b.RemoveTree(t.Context(), "/case"); err != nil {
		t.Fatal(err)
	}
}

// TestRenameKeepsTime moves a file to another collection, which the server takes for a
// change of it.
func TestRenameKeepsTime(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d")
	old := time.Unix(1e9, 0)
	for _, bare := range []bool{false, true} {
		path := fmt.Sprintf("/f-%v", bare)
		if bare { // without a checksum, which would be version enough
			alice := connect(t, z, "alice")
			alice.put(z.Home("alice")+path, "content")
			if _, err := b.SetAttr(t.Context(), path, remote.Attrs{MTime: &old}); err != nil {
				t.Fatal(err)
			}
		} else {
			put(t, b, path, "content", remote.PutOptions{Attrs: remote.Attrs{MTime: &old}})
		}
		before := stat(t, b, path)
		if err := b.Rename(t.Context(), path, "/d"+path, remote.RenameOptions{}); err != nil {
			t.Fatal(err)
		}
		after := stat(t, b, "/d"+path)
		if !after.MTime.Equal(old) || after.Version != before.Version || after.ID != before.ID {
			t.Errorf("before %+v, after %+v", before, after)
		}
	}
}

// TestRenameRefusedSparesTarget: the server removes what is to be replaced before it finds
// out that we may not rename.
func TestRenameRefusedSparesTarget(t *testing.T) {
	z := startZone(t, zone.Options{})
	root, alice := project(t, z)
	home := dial(t, options(z, z.Addr()))
	put(t, home, "/from", "from", remote.PutOptions{})
	put(t, home, "/to", "to", remote.PutOptions{})
	mkdir(t, home, "/dir", "/empty", "/full")
	put(t, home, "/dir/to", "to", remote.PutOptions{})
	put(t, home, "/full/below", "below", remote.PutOptions{})
	for path, level := range map[string]string{
		"": "write", "/from": "delete_object", "/to": "own", "/dir": "read", "/dir/to": "own", "/empty": "own", "/full": "delete_object",
		"/full/below": "read",
	} {
		alice.grant(level, "bob", root+path)
	}
	b := dial(t, bobs(z, root))
	wantKind(t, b.Rename(t.Context(), "/from", "/to", remote.RenameOptions{}), remote.Permission, "without own on the source")
	wantKind(t, b.Rename(t.Context(), "/full", "/empty", remote.RenameOptions{}), remote.Permission, "a directory without own")
	alice.grant("own", "bob", root+"/from")
	wantKind(t, b.Rename(t.Context(), "/from", "/dir/to", remote.RenameOptions{}), remote.Permission, "without write in the target's directory")
	wantTree(t, home, "after refusals", "/from", "from", "/to", "to", "/dir", "directory", "/dir/to", "to",
		"/empty", "directory", "/full", "directory", "/full/below", "below")
	if err := b.Rename(t.Context(), "/from", "/to", remote.RenameOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRenameOntoHidden renames to a name that somebody else has, unseen.
func TestRenameOntoHidden(t *testing.T) {
	z := startZone(t, zone.Options{})
	root, alice := project(t, z)
	home := dial(t, options(z, z.Addr()))
	put(t, home, "/from", "from", remote.PutOptions{})
	put(t, home, "/hidden", "hidden", remote.PutOptions{})
	alice.grant("write", "bob", root)
	alice.grant("own", "bob", root+"/from")
	b := dial(t, bobs(z, root))
	wantKind(t, b.Rename(t.Context(), "/from", "/hidden", remote.RenameOptions{}), remote.Permission, "onto what is hidden")
	wantTree(t, home, "afterwards", "/from", "from", "/hidden", "hidden")
}

// TestRenameCutShort cuts the connection before each of the moves by way of another name,
// or before its answer: the file is at one of the two ends, and nothing else is lost.
func TestRenameCutShort(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	for n := range 3 {
		for _, lose := range []bool{false, true} {
			mkdir(t, b, "/a", "/b")
			put(t, b, "/a/old", "moved", remote.PutOptions{})
			put(t, b, "/a/new", "neighbour", remote.PutOptions{})
			put(t, b, "/b/new", "replaced", remote.PutOptions{})
			var seen atomic.Int32
			z.SetFaults(func(c zone.Call) *zone.Fault {
				if c.API != wire.APIDataObjRename || int(seen.Add(1)) != n+1 {
					return nil
				}
				return &zone.Fault{Kill: !lose, LoseReply: lose}
			})
			err := b.Rename(t.Context(), "/a/old", "/b/new", remote.RenameOptions{})
			z.SetFaults(nil)
			if err == nil || !unsure(err) {
				t.Errorf("cut at %d: %v", n, err)
			}
			got := tree(t, b, "/")
			moved := got["/b/new"] == "moved" && got["/a/old"] == ""
			stayed := got["/b/new"] == "replaced" && got["/a/old"] == "moved"
			if !moved && !stayed || got["/a/new"] != "neighbour" || strings.Contains(fmt.Sprint(got), "moving") {
				t.Errorf("cut at %d, lose=%v: %v", n, lose, got)
			}
			for _, dir := range []string{"/a", "/b"} {
				if err := b.RemoveTree(t.Context(), dir); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestRenameMeetsNeighbour has somebody make, between our look and the move to another
// collection, something with the new name next to the old one: the server fails then, after it
// has removed what was to be replaced. It goes by way of another name.
func TestRenameMeetsNeighbour(t *testing.T) {
	for _, replace := range []bool{true, false} {
		t.Run(fmt.Sprintf("replace=%v", replace), func(t *testing.T) {
			z := startZone(t, zone.Options{})
			b, other := dial(t, options(z, z.Addr())), dial(t, options(z, z.Addr()))
			mkdir(t, b, "/a", "/b")
			put(t, b, "/a/old", "moved", remote.PutOptions{})
			if replace {
				put(t, b, "/b/new", "replaced", remote.PutOptions{})
			}
			var once sync.Once
			z.SetFaults(func(c zone.Call) *zone.Fault {
				if c.API == wire.APIDataObjRename {
					once.Do(func() { put(t, other, "/a/new", "neighbour", remote.PutOptions{}) })
				}
				return nil
			})
			if err := b.Rename(t.Context(), "/a/old", "/b/new", remote.RenameOptions{}); err != nil {
				t.Error(err)
			}
			z.SetFaults(nil)
			wantTree(t, b, "afterwards", "/a", "directory", "/a/new", "neighbour", "/b", "directory", "/b/new", "moved")
		})
	}
}

// TestRenameTellsOfLoss has the second way fail, too, when the first one has removed what
// was to be replaced: the error says so.
func TestRenameTellsOfLoss(t *testing.T) {
	for name, fault := range map[string]zone.Fault{"refused": {Code: wire.CodeNoAccess}, "cut": {Kill: true}} {
		t.Run(name, func(t *testing.T) {
			z := startZone(t, zone.Options{})
			b, other := dial(t, options(z, z.Addr())), dial(t, options(z, z.Addr()))
			mkdir(t, b, "/a", "/b")
			put(t, b, "/a/old", "moved", remote.PutOptions{})
			put(t, b, "/b/new", "replaced", remote.PutOptions{})
			var seen atomic.Int32
			z.SetFaults(func(c zone.Call) *zone.Fault {
				if c.API != wire.APIDataObjRename {
					return nil
				}
				if seen.Add(1) > 1 {
					return &fault
				}
				put(t, other, "/a/new", "neighbour", remote.PutOptions{})
				return nil
			})
			err := b.Rename(t.Context(), "/a/old", "/b/new", remote.RenameOptions{})
			z.SetFaults(nil)
			wantTree(t, b, "afterwards", "/a", "directory", "/a/new", "neighbour", "/a/old", "moved", "/b", "directory")
			if err == nil || !unsure(err) || !strings.Contains(err.Error(), "/b/new may be gone") {
				t.Errorf("the target is gone, and the error is %v", err)
			}
			if want := map[bool]remote.Kind{true: remote.Permission, false: remote.Unavailable}[fault.Code != 0]; remote.KindOf(err) != want {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
}
