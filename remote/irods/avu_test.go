package irods

import (
	"maps"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// addAVU adds a triple as other clients do.
func (r *raw) addAVU(path, name, value, unit string) {
	r.t.Helper()
	kind := "-d"
	if len(r.rows([]int{wire.ColCollID}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(path)})) > 0 {
		kind = "-C"
	}
	r.do(&wire.Call{API: wire.APIModAVUMetadata, In: &wire.ModAVUMetadataInp{Args: [10]string{"add", kind, path, name, value, unit}}})
}

func xattrsOf(t *testing.T, b *Backend, path string) map[string]string {
	t.Helper()
	all, err := b.Xattrs(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, value := range all {
		out[name] = string(value)
	}
	return out
}

// TestAVUsOfOthers shows and changes what other clients have stored: several values of one
// attribute, units, on files with two replicas and on directories. Our own marks stay
// hidden and unharmed.
func TestAVUsOfOthers(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	ctx := t.Context()
	put(t, b, "/f", "content", fresh)
	alice.replicate(b.full("/f"), "resc2")
	mkdir(t, b, "/d")
	mode := uint32(0o700)
	for _, path := range []string{"/f", "/d"} {
		if _, err := b.SetAttr(ctx, path, remote.Attrs{Mode: &mode}); err != nil {
			t.Fatal(err)
		}
		alice.addAVU(b.full(path), "depth", "12", "m")
		alice.addAVU(b.full(path), "author", "Bob", "")
		alice.addAVU(b.full(path), "author", "Alice", "first")
		alice.addAVU(b.full(path), "it's", "100%", "")
		want := map[string]string{"user.irods.depth": "12\tm", "user.irods.author": "Alice\tfirst\nBob", "user.irods.it's": "100%"}
		if got := xattrsOf(t, b, path); !maps.Equal(got, want) {
			t.Errorf("%s has %q", path, got)
		}
		if err := b.SetXattr(ctx, path, "user.irods.author", []byte("Alice\tfirst\nCarol"), remote.XattrReplace); err != nil {
			t.Error(err)
		}
		if err := b.RemoveXattr(ctx, path, "user.irods.depth"); err != nil {
			t.Error(err)
		}
		want = map[string]string{"user.irods.author": "Alice\tfirst\nCarol", "user.irods.it's": "100%"}
		if got := xattrsOf(t, b, path); !maps.Equal(got, want) {
			t.Errorf("%s has %q", path, got)
		}
		if e := stat(t, b, path); e.Mode != mode {
			t.Errorf("%s has the mode %o", path, e.Mode)
		}
		for _, ours := range []string{"user.irods." + markMode, "user.irods." + markTarget} {
			wantKind(t, b.SetXattr(ctx, path, ours, []byte("x"), remote.XattrAny), remote.Invalid, "set %s", ours)
			wantKind(t, b.RemoveXattr(ctx, path, ours), remote.NoXattr, "remove %s", ours)
		}
	}
}

// TestForeignMarks: an attribute of the name of our mark makes no link of a file that has
// content.
func TestForeignMarks(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	put(t, b, "/f", "content", fresh)
	connect(t, z, "alice").addAVU(b.full("/f"), markTarget, "/etc/passwd", "")
	if e := stat(t, b, "/f"); e.Type != remote.File || e.Size != 7 || contentOf(t, b, "/f") != "content" {
		t.Errorf("%+v", e)
	}
}
