package remotetest

import (
	"fmt"

	"github.com/meshmount/meshmount/remote"
)

var renameChecks = []check{
	{"Rename", checkRename},
	{"RenameMatrix", checkRenameMatrix},
	{"RenameEnds", checkRenameEnds},
	{"RenameTree", checkRenameTree},
}

func checkRename(e *env) {
	e.mkdir("/d")
	made := e.put("/a", []byte("content"))
	e.rename("/a", "/b")
	e.wantNothing("/a")
	e.wantContent("/b", []byte("content"))
	if got := e.stat("/b"); made.ID != "" && got.ID != made.ID {
		e.Errorf("the identity was %q and is %q", made.ID, got.ID)
	}
	e.rename("/b", "/d/c")
	e.wantContent("/d/c", []byte("content"))
	e.wantNames("/", "d")
	e.put("/other", []byte("replaced"))
	e.rename("/d/c", "/other")
	e.wantContent("/other", []byte("content"))
	e.wantNames("/d")
	e.rename("/other", "/other")
	e.wantContent("/other", []byte("content"))
	e.wantNames("/", "d", "other")
}

// The objects of the rename matrix.
const (
	missing  = "missing"
	file     = "file"
	emptyDir = "empty"
	fullDir  = "full"
)

func (e *env) make(kind, path string) {
	e.Helper()
	switch kind {
	case file:
		e.put(path, []byte(path))
	case emptyDir:
		e.mkdir(path)
	case fullDir:
		e.mkdir(path)
		e.put(path+"/child", []byte(path))
	}
}

// wantMade checks that what make made as path is at now.
func (e *env) wantMade(kind, path, now string) {
	e.Helper()
	switch kind {
	case missing:
		e.wantNothing(now)
	case file:
		e.wantContent(now, []byte(path))
	case emptyDir:
		e.wantNames(now)
	case fullDir:
		e.wantNames(now, "child")
		e.wantContent(now+"/child", []byte(path))
	}
}

// renameResult is what rename(2) says to each pair; remote.Other for success.
func renameResult(from, to string, noReplace bool) remote.Kind {
	switch fromDir, toDir := from == emptyDir || from == fullDir, to == emptyDir || to == fullDir; {
	case from == missing:
		return remote.NotExist
	case to == missing:
		return remote.Other
	case noReplace:
		return remote.Exist
	case fromDir && !toDir:
		return remote.NotDir
	case !fromDir && toDir:
		return remote.IsDir
	case to == fullDir:
		return remote.NotEmpty
	}
	return remote.Other
}

func checkRenameMatrix(e *env) {
	kinds := []string{missing, file, emptyDir, fullDir}
	for _, from := range kinds {
		for _, to := range kinds {
			for _, noReplace := range []bool{false, true} {
				e.renamePair(from, to, noReplace)
			}
		}
	}
}

func (e *env) renamePair(from, to string, noReplace bool) {
	e.Helper()
	dir := fmt.Sprintf("/%s onto %s %v", from, to, noReplace)
	e.mkdir(dir)
	a, b := dir+"/a", dir+"/b"
	e.make(from, a)
	e.make(to, b)
	want := renameResult(from, to, noReplace)
	err := e.b.Rename(e.ctx, a, b, remote.RenameOptions{NoReplace: noReplace})
	if want == remote.Other {
		if err != nil {
			e.Errorf("%s: %v", dir, err)
			return
		}
		e.wantNothing(a)
		e.wantMade(from, a, b)
		return
	}
	e.wantKind(err, dir, want)
	e.wantMade(from, a, a)
	e.wantMade(to, b, b)
}

// checkRenameEnds tries ends that cannot be.
func checkRenameEnds(e *env) {
	e.mkdir("/d")
	e.mkdir("/d/e")
	e.put("/d/f", []byte("f"))
	none := remote.RenameOptions{}
	e.wantKind(e.b.Rename(e.ctx, "/d", "/d/in", none), "a directory into itself", remote.Invalid)
	e.wantKind(e.b.Rename(e.ctx, "/d", "/d/e/in", none), "a directory below itself", remote.Invalid)
	e.wantKind(e.b.Rename(e.ctx, "/d", "/d/e", none), "a directory onto its child", remote.Invalid)
	e.wantKind(e.b.Rename(e.ctx, "/d/e", "/d", none), "a directory onto its parent", remote.NotEmpty)
	e.wantKind(e.b.Rename(e.ctx, "/d/f", "/d", none), "a file onto its parent", remote.IsDir)
	e.wantKind(e.b.Rename(e.ctx, "/d/f", "/none/f", none), "no parent at the target", remote.NotExist)
	e.wantNothing("/none")
	e.wantKind(e.b.Rename(e.ctx, "/d/e", "/d/f/in", none), "a file as parent", remote.NotDir, remote.NotExist)
	e.wantKind(e.b.Rename(e.ctx, "/d/f/in", "/x", none), "a source below a file", remote.NotExist, remote.NotDir)
	e.wantKind(e.b.Rename(e.ctx, "/d", "/d", remote.RenameOptions{NoReplace: true}), "onto itself, not replacing", remote.Exist)
	e.rename("/d", "/d")
	e.rename("/d/f", "/d/f")
	e.wantNames("/", "d")
	e.wantNames("/d", "e", "f")
	e.wantContent("/d/f", []byte("f"))
	e.rename("/d", "/d2") // a prefix of the name is not the directory
	e.wantContent("/d2/f", []byte("f"))
}

// checkRenameTree moves a directory with things in it.
func checkRenameTree(e *env) {
	e.mkdir("/a")
	e.mkdir("/a/b")
	e.put("/a/b/f", []byte("deep"))
	e.put("/a/g", []byte("top"))
	e.mkdir("/t")
	e.rename("/a", "/t/moved")
	e.wantNothing("/a")
	e.wantNothing("/a/b/f")
	e.wantContent("/t/moved/b/f", []byte("deep"))
	e.wantContent("/t/moved/g", []byte("top"))
	e.wantNames("/t/moved", "b", "g")
	e.mkdir("/a")
	e.wantNames("/a")
	e.rename("/t/moved", "/a")
	e.wantNames("/", "a", "t")
	e.wantNames("/t")
	e.wantContent("/a/b/f", []byte("deep"))
}
