package remotetest

import (
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// trackChecks are about remote.Tracker; a backend without it passes.
var trackChecks = []check{
	{"Changed", checkChanged},
	{"ChangedBelow", checkChangedBelow},
	{"ChangedReplaced", checkChangedReplaced},
	{"ChangedMarks", checkChangedMarks},
	{"ChangedErrors", checkChangedErrors},
}

// tracked is a Tracker with the marks it returned.
type tracked struct {
	*env
	remote.Tracker
	dir, mark string
}

// track begins to ask for the changes below dir.
func (e *env) track(dir string) (*tracked, bool) {
	e.Helper()
	t, ok := remote.As[remote.Tracker](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return nil, false
	}
	c, err := t.Changed(e.ctx, dir, "")
	if err != nil {
		e.Fatalf("the first mark of %q: %v", dir, err)
	}
	if c.Mark == "" {
		e.Error("the mark is empty")
	}
	return &tracked{e, t, dir, c.Mark}, true
}

// changed asks what has changed since the last mark.
func (t *tracked) changed() remote.Changes {
	t.Helper()
	c, err := t.Changed(t.ctx, t.dir, t.mark)
	if err != nil {
		t.Fatalf("changes below %q: %v", t.dir, err)
	}
	for _, dir := range c.Dirs {
		if !remote.Within(dir, t.dir) || remote.CheckPath("changed", dir) != nil {
			t.Errorf("changes below %q: %q is told", t.dir, dir)
		}
	}
	t.mark = c.Mark
	return c
}

// wantTold makes a change and wants each of dirs to be told, and each directory that
// shows another one with another time.
func (t *tracked) wantTold(what string, change func(), dirs ...string) {
	t.Helper()
	before := t.dirEntries()
	change()
	after := t.dirEntries()
	c := t.changed()
	if c.All {
		return
	}
	for path, now := range after {
		was, known := before[path]
		if up, _ := remote.Split(path); known && path != t.dir && remote.Within(path, t.dir) && !was.MTime.Equal(now.MTime) {
			dirs = append(dirs, up)
		}
	}
	for _, dir := range dirs {
		if !slices.Contains(c.Dirs, dir) {
			t.Errorf("%s: %q is not told, only %q", what, dir, c.Dirs)
		}
	}
}

// dirEntries returns the directories of the tree, by path.
func (t *tracked) dirEntries() map[string]remote.Entry {
	t.Helper()
	all := map[string]remote.Entry{"/": t.stat("/")}
	for todo := []string{"/"}; len(todo) > 0; todo = todo[1:] {
		for _, e := range t.list(todo[0]) {
			if e.Type == remote.Dir {
				all[e.Path] = e
				todo = append(todo, e.Path)
			}
		}
	}
	return all
}

// checkChanged wants the directory of each kind of change to be told.
func checkChanged(e *env) {
	e.mkdir("/d")
	e.mkdir("/d/sub")
	e.mkdir("/other")
	e.put("/d/f", []byte("1"))
	t, ok := e.track("/")
	if !ok {
		return
	}
	t.wantTold("nothing", func() {})
	t.wantTold("a new file", func() { e.put("/d/g", []byte("g")) }, "/d")
	t.wantTold("an overwrite", func() { e.put("/d/f", []byte("22")) }, "/d")
	t.wantTold("an overwrite of the same size", func() { e.put("/d/f", []byte("33")) }, "/d")
	t.wantTold("a removal", func() { e.remove("/d/g", remote.File) }, "/d")
	t.wantTold("a rename", func() { e.rename("/d/f", "/d/h") }, "/d")
	t.wantTold("a new directory", func() { e.mkdir("/d/sub/deep") }, "/d/sub")
	t.wantTold("a file in it", func() { e.put("/d/sub/deep/f", nil) }, "/d/sub/deep")
	t.wantTold("a move", func() { e.rename("/d/h", "/other/h") }, "/d", "/other")
	t.wantTold("two changes", func() {
		e.put("/top", nil)
		e.remove("/d/sub/deep/f", remote.File)
	}, "/", "/d/sub/deep")
	t.wantTold("a removed directory", func() { e.remove("/d/sub/deep", remote.Dir) }, "/d/sub")
	if s, ok := remote.As[remote.AttrSetter](e.b); ok && e.caps.StoresMTime {
		when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		t.wantTold("another time", func() {
			if _, err := s.SetAttr(e.ctx, "/other/h", remote.Attrs{MTime: &when}); err != nil {
				e.Errorf("setattr: %v", err)
			}
		}, "/other")
	}
	if r, ok := remote.As[remote.TreeRemover](e.b); ok {
		t.wantTold("a removed tree", func() {
			if err := r.RemoveTree(e.ctx, "/d"); err != nil {
				e.Errorf("removal of a tree: %v", err)
			}
		}, "/")
	}
}

// checkChangedBelow asks for a part of the tree, and has somebody else change it.
func checkChangedBelow(e *env) {
	e.mkdir("/d")
	e.mkdir("/d/odd 'name' %41_")
	e.mkdir("/d 2") // a name that begins alike
	t, ok := e.track("/d")
	if !ok {
		return
	}
	put := func(path string) {
		if _, err := e.Other.Put(e.ctx, path, Bytes([]byte(path)), remote.PutOptions{}); err != nil {
			e.Errorf("put by another client: %v", err)
		}
	}
	t.wantTold("another's change", func() { put("/d/odd 'name' %41_/f") }, "/d/odd 'name' %41_")
	put("/d 2/f")
	put("/f")
	t.changed() // checks that nothing outside is told
	t.wantTold("a change of the directory itself", func() { put("/d/f") }, "/d")
}

// checkChangedReplaced puts a directory in the place of another: what is known of those
// below must not be taken for what is there now.
func checkChangedReplaced(e *env) {
	for _, dir := range []string{"/a", "/a/b", "/c", "/c/b"} {
		e.mkdir(dir)
	}
	e.put("/a/b/of a", nil)
	t, ok := e.track("/")
	if !ok {
		return
	}
	before := e.stat("/c/b").ID
	e.remove("/c/b", remote.Dir)
	e.remove("/c", remote.Dir)
	e.rename("/a", "/c")
	c := t.changed()
	after := e.stat("/c/b").ID
	if !c.All && !slices.Contains(c.Dirs, "/") {
		e.Errorf("a replaced directory is not told by its parent: %q", c.Dirs)
	}
	if !c.All && !slices.Contains(c.Dirs, "/c/b") && (before == "" || before == after) {
		e.Errorf("nothing tells that another directory is at /c/b: told are %q, its identity is %q", c.Dirs, after)
	}
}

// checkChangedMarks uses marks more than once, and such as are no marks.
func checkChangedMarks(e *env) {
	e.mkdir("/d")
	t, ok := e.track("/")
	if !ok {
		return
	}
	old := t.mark
	t.wantTold("a change", func() { e.put("/d/f", nil) }, "/d")
	t.wantTold("a second change", func() { e.put("/d/g", nil) }, "/d")
	t.mark = old
	t.wantTold("the old mark again", func() { e.put("/top", nil) }, "/d", "/")
	for _, mark := range []string{"no mark", "0", "-1", "\x00", "9999999999999999999999", old + "x"} {
		c, err := t.Changed(e.ctx, "/", mark)
		if err != nil {
			e.wantKind(err, "a mark of nobody", remote.Invalid)
			continue
		}
		if !c.All && !slices.Contains(c.Dirs, "/d") {
			e.Errorf("the mark %q is taken for a good one", mark)
		}
	}
	if c, err := t.Changed(e.ctx, "/", ""); err != nil || c.All || len(c.Dirs) > 0 || c.Mark == "" {
		e.Errorf("a first mark: %+v, %v", c, err)
	}
}

func checkChangedErrors(e *env) {
	e.mkdir("/d")
	e.put("/f", nil)
	t, ok := e.track("/d")
	if !ok {
		return
	}
	_, err := t.Changed(e.ctx, "/none", "")
	e.wantKind(err, "changes of nothing", remote.NotExist)
	_, err = t.Changed(e.ctx, "/f", "")
	e.wantKind(err, "changes of a file", remote.NotDir, remote.NotExist)
	_, err = t.Changed(e.ctx, "d", "")
	e.wantKind(err, "changes of a bad path", remote.Invalid)
	e.remove("/d", remote.Dir)
	_, err = t.Changed(e.ctx, "/d", t.mark)
	e.wantKind(err, "changes of what is gone", remote.NotExist)
}
