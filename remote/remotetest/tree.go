package remotetest

import (
	"fmt"
	"time"

	"github.com/meshmount/meshmount/remote"
)

var treeChecks = []check{
	{"Root", checkRoot},
	{"Stat", checkStat},
	{"Mkdir", checkMkdir},
	{"BadPaths", checkBadPaths},
	{"DirVersions", checkDirVersions},
}

func checkRoot(e *env) {
	root := e.stat("/")
	if root.Type != remote.Dir || root.Size != 0 {
		e.Errorf("the root is %+v", root)
	}
	e.wantNames("/")
	_, err := e.b.Mkdir(e.ctx, "/")
	e.wantKind(err, "mkdir of the root", remote.Exist)
	_, err = e.b.Put(e.ctx, "/", Bytes([]byte("x")), remote.PutOptions{})
	e.wantKind(err, "put onto the root", remote.IsDir)
	e.put("/a", nil)
	if err := e.b.Remove(e.ctx, "/", remote.RemoveOptions{Type: remote.Dir}); err == nil {
		e.Error("the root was removed")
	}
	if err := e.b.Rename(e.ctx, "/", "/b", remote.RenameOptions{}); err == nil {
		e.Error("the root was renamed")
	}
	e.wantNames("/", "a")
}

func checkStat(e *env) {
	start := time.Now()
	e.mkdir("/d")
	e.mkdir("/d/sub")
	made := e.put("/d/f", []byte("hello"))
	e.sameEntry("put and stat", made, e.stat("/d/f"))
	listed := e.list("/d")
	e.sameEntry("stat and list of a file", e.stat("/d/f"), listed["f"])
	e.sameEntry("stat and list of a directory", e.stat("/d/sub"), listed["sub"])
	if got := e.stat("/d"); got.Type != remote.Dir || got.Size != 0 {
		e.Errorf("stat of a directory: %+v", got)
	}
	if m := made.MTime; !m.IsZero() && (m.Before(start.Add(-time.Hour)) || m.After(time.Now().Add(time.Hour))) {
		e.Errorf("a new file has the time %v, it is %v", m, time.Now())
	}
	for _, path := range []string{"/none", "/none/deep/er", "/d/none", "/d/sub/f"} {
		e.wantNothing(path)
	}
	_, err := e.b.Stat(e.ctx, "/d/f/below")
	e.wantKind(err, "stat below a file", remote.NotExist, remote.NotDir)
	_, err = e.b.Stat(e.ctx, "/D")
	e.wantKind(err, "stat in other letters", remote.NotExist)
}

func checkMkdir(e *env) {
	made := e.mkdir("/d")
	e.sameEntry("mkdir and stat", made, e.stat("/d"))
	e.wantNames("/d")
	e.put("/f", []byte("f"))
	_, err := e.b.Mkdir(e.ctx, "/d")
	e.wantKind(err, "mkdir over a directory", remote.Exist)
	_, err = e.b.Mkdir(e.ctx, "/f")
	e.wantKind(err, "mkdir over a file", remote.Exist)
	_, err = e.b.Mkdir(e.ctx, "/none/sub")
	e.wantKind(err, "mkdir without a parent", remote.NotExist)
	e.wantNothing("/none")
	_, err = e.b.Mkdir(e.ctx, "/f/sub")
	e.wantKind(err, "mkdir below a file", remote.NotDir, remote.NotExist)
	e.wantContent("/f", []byte("f"))
	e.mkdir("/d/e")
	e.mkdir("/d/e/f")
	e.wantNames("/d/e", "f")
}

// checkBadPaths gives every method paths of a wrong form.
func checkBadPaths(e *env) {
	e.put("/a", []byte("kept"))
	for _, path := range []string{"", "a", "//a", "/a/", "/../a", "/./a", "/b/../a", "/a\x00b"} {
		what := func(op string) string { return fmt.Sprintf("%s of %q", op, path) }
		_, err := e.b.Stat(e.ctx, path)
		e.wantKind(err, what("stat"), remote.Invalid)
		err = e.b.List(e.ctx, path, func(remote.Entry) error { return nil })
		e.wantKind(err, what("list"), remote.Invalid)
		_, err = e.b.ReadAt(e.ctx, remote.Ref{Path: path, Size: -1}, make([]byte, 1), 0)
		e.wantKind(err, what("read"), remote.Invalid)
		_, err = e.b.Put(e.ctx, path, Bytes([]byte("new")), remote.PutOptions{})
		e.wantKind(err, what("put"), remote.Invalid)
		_, err = e.b.Mkdir(e.ctx, path)
		e.wantKind(err, what("mkdir"), remote.Invalid)
		err = e.b.Remove(e.ctx, path, remote.RemoveOptions{Type: remote.File})
		e.wantKind(err, what("remove"), remote.Invalid)
		err = e.b.Rename(e.ctx, path, "/c", remote.RenameOptions{})
		e.wantKind(err, what("rename from"), remote.Invalid)
		err = e.b.Rename(e.ctx, "/a", path, remote.RenameOptions{})
		e.wantKind(err, what("rename to"), remote.Invalid)
	}
	e.wantNames("/", "a")
	e.wantContent("/a", []byte("kept"))
}

// checkDirVersions wants another version of a directory after each change of its
// children, if directories have versions at all.
func checkDirVersions(e *env) {
	e.mkdir("/d")
	e.mkdir("/d/sub")
	if e.LateVersions || e.stat("/d").Version == "" {
		if e.caps.PropagatesVersion {
			e.Error("PropagatesVersion without versions")
		}
		return
	}
	e.wantNewVersion("a new child", func() { e.put("/d/f", []byte("1")) })
	e.wantNewVersion("a rename within", func() { e.rename("/d/f", "/d/g") })
	e.wantNewVersion("a removal", func() { e.remove("/d/g", remote.File) })
	e.wantNewVersion("a new directory", func() { e.mkdir("/d/sub2") })
	if !e.caps.PropagatesVersion {
		return
	}
	e.put("/d/sub/f", []byte("1"))
	e.wantNewVersion("an overwrite two levels below", func() { e.put("/d/sub/f", []byte("22")) })
	e.wantNewVersion("a removal two levels below", func() { e.remove("/d/sub/f", remote.File) })
}

func (e *env) wantNewVersion(what string, change func()) {
	e.Helper()
	before := e.stat("/d")
	change()
	after := e.stat("/d")
	if before.Version == after.Version && !before.Provisional && !after.Provisional {
		e.Errorf("%s: the directory keeps its version %q", what, after.Version)
	}
}
