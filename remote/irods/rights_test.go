package irods

import (
	"context"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
)

// project makes a collection that alice and bob see.
func project(t *testing.T, z *zone.Zone) (root string, alice *raw) {
	t.Helper()
	alice = connect(t, z, "alice")
	root = z.Home("alice")
	alice.grant("read", "bob", root)
	return root, alice
}

const (
	mayRead   = remote.AccessKnown | remote.AccessRead
	mayWrite  = mayRead | remote.AccessWrite
	mayMake   = mayWrite | remote.AccessCreate | remote.AccessMkdir
	mayDelete = mayWrite | remote.AccessDelete
)

// TestAccess checks what the levels become, by Stat and by List.
func TestAccess(t *testing.T) {
	z := startZone(t, zone.Options{})
	root, alice := project(t, z)
	b := dial(t, bobs(z, root))
	home := dial(t, options(z, z.Addr()))
	for _, x := range []struct {
		level     string
		file, dir remote.Access
	}{
		{"read", mayRead, mayRead},
		{"write", mayWrite, mayMake},
		{"delete_object", mayDelete, mayMake | remote.AccessDelete},
		{"own", mayDelete | remote.AccessRename, mayMake | remote.AccessDelete | remote.AccessRename},
	} {
		file, dir := "/f-"+x.level, "/d-"+x.level
		put(t, home, file, "x", remote.PutOptions{})
		if _, err := home.Mkdir(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		alice.grant(x.level, "bob", root+file)
		alice.grant(x.level, "bob", root+dir)
		if got := stat(t, b, file).Access; got != x.file {
			t.Errorf("%s on a file: %b, want %b", x.level, got, x.file)
		}
		if got := stat(t, b, dir).Access; got != x.dir {
			t.Errorf("%s on a directory: %b, want %b", x.level, got, x.dir)
		}
		all := names(t, b, "/")
		if all[file].Access != x.file || all[dir].Access != x.dir {
			t.Errorf("%s in a listing: %b and %b", x.level, all[file].Access, all[dir].Access)
		}
	}
}

// TestGroupAccess has levels of the user and of groups side by side: the highest counts,
// and replicas and levels do not multiply.
func TestGroupAccess(t *testing.T) {
	z := startZone(t, zone.Options{Accounts: []zone.Account{
		{Name: "alice", Password: "wonderland"},
		{Name: "bob", Password: "builder", Groups: []string{"lab", "guests"}},
	}})
	root, alice := project(t, z)
	home := dial(t, options(z, z.Addr()))
	put(t, home, "/f", "content", remote.PutOptions{})
	alice.replicate(root+"/f", "resc2")
	if _, err := home.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/f", "/d"} {
		alice.grant("read", "bob", root+path)
		alice.grant("write", "lab", root+path)
		alice.grant("read", "guests", root+path)
	}
	b := dial(t, bobs(z, root))
	if got := stat(t, b, "/f").Access; got != mayWrite {
		t.Errorf("the file: %b, want %b", got, mayWrite)
	}
	if got := stat(t, b, "/d").Access; got != mayMake {
		t.Errorf("the directory: %b, want %b", got, mayMake)
	}
	all := names(t, b, "/")
	if len(all) != 2 || all["/f"].Access != mayWrite || all["/d"].Access != mayMake {
		t.Errorf("listed are %v", all)
	}
	if list, err := b.Replicas(t.Context(), "/f"); err != nil || len(list) != 2 {
		t.Errorf("replicas: %v, %v", list, err)
	}
}

// TestOwnerWithoutLevel shows what a user has made and may not change: the owner's name
// says nothing, as in collections with inheritance, where the maker gets the levels of
// the collection.
func TestOwnerWithoutLevel(t *testing.T) {
	z := startZone(t, zone.Options{})
	home := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	put(t, home, "/f", "x", remote.PutOptions{})
	if _, err := home.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	alice.grant("read", "alice", z.Home("alice")+"/f")
	alice.grant("read", "alice", z.Home("alice")+"/d")
	all := names(t, home, "/")
	for _, path := range []string{"/f", "/d"} {
		if got := stat(t, home, path).Access; got != mayRead || all[path].Access != mayRead {
			t.Errorf("%s: %b, listed with %b, want %b", path, got, all[path].Access, mayRead)
		}
	}
}

// TestAdministrator sees everything in the catalog, and the levels are true all the same.
func TestAdministrator(t *testing.T) {
	z := startZone(t, zone.Options{})
	home := dial(t, options(z, z.Addr()))
	put(t, home, "/theirs", "x", remote.PutOptions{})
	put(t, home, "/ours", "x", remote.PutOptions{})
	if _, err := home.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	connect(t, z, "alice").grant("write", "rods", z.Home("alice")+"/ours")
	connect(t, z, "alice").grant("read", "rods", z.Home("alice")+"/d")
	opts := options(z, z.Addr())
	opts.User = "rods"
	opts.Password = func(context.Context) (remote.Secret, error) { return remote.NewSecret("rods"), nil }
	b := dial(t, opts)
	all := names(t, b, "/")
	for path, want := range map[string]remote.Access{"/theirs": remote.AccessKnown, "/ours": mayWrite, "/d": mayRead} {
		if got := stat(t, b, path).Access; got != want || all[path].Access != want {
			t.Errorf("%s: %b, listed with %b, want %b", path, got, all[path].Access, want)
		}
	}
	if len(all) != 3 {
		t.Errorf("listed are %v", all)
	}
}

// TestNoAccess checks errors for those who may not.
func TestNoAccess(t *testing.T) {
	z := startZone(t, zone.Options{})
	root, alice := project(t, z)
	home := dial(t, options(z, z.Addr()))
	put(t, home, "/secret", "x", remote.PutOptions{})
	put(t, home, "/shown", "content", remote.PutOptions{})
	for _, dir := range []string{"/open", "/hidden"} {
		if _, err := home.Mkdir(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	alice.grant("read", "bob", root+"/shown")
	alice.grant("read", "bob", root+"/open")
	b := dial(t, bobs(z, root))
	ctx := t.Context()
	if got := contentOf(t, b, "/shown"); got != "content" {
		t.Errorf("read %q", got)
	}
	for _, path := range []string{"/secret", "/hidden"} {
		_, err := b.Stat(ctx, path)
		wantKind(t, err, remote.NotExist, "stat of what the server hides, %s", path)
	}
	wantKind(t, b.List(ctx, "/hidden", func(remote.Entry) error { return nil }), remote.NotExist, "list of what is hidden")
	if all := names(t, b, "/"); len(all) != 2 {
		t.Errorf("listed are %v", all)
	}
	_, err := b.Put(ctx, "/shown", text("y"), remote.PutOptions{})
	wantKind(t, err, remote.Permission, "overwrite")
	_, err = b.Put(ctx, "/new", text("y"), remote.PutOptions{})
	wantKind(t, err, remote.Permission, "create")
	_, err = b.Put(ctx, "/new", text("y"), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	wantKind(t, err, remote.Permission, "create what is not there")
	_, err = b.Mkdir(ctx, "/open/new")
	wantKind(t, err, remote.Permission, "mkdir")
	_, err = b.Symlink(ctx, "/open/link", "/shown")
	wantKind(t, err, remote.Permission, "symlink")
	wantKind(t, b.Remove(ctx, "/shown", remote.RemoveOptions{Type: remote.File}), remote.Permission, "remove of a file")
	wantKind(t, b.Remove(ctx, "/open", remote.RemoveOptions{Type: remote.Dir}), remote.Permission, "remove of a directory")
	wantKind(t, b.Rename(ctx, "/shown", "/other", remote.RenameOptions{}), remote.Permission, "rename")
	wantKind(t, b.SetXattr(ctx, "/shown", "user.irods.a", []byte("v"), remote.XattrAny), remote.Permission, "set an attribute")
	mode := uint32(0o600)
	_, err = b.SetAttr(ctx, "/shown", remote.Attrs{Mode: &mode})
	wantKind(t, err, remote.Permission, "set the mode")
	if got := contentOf(t, home, "/shown"); got != "content" {
		t.Errorf("afterwards it holds %q", got)
	}
}
