package remotetest

import (
	"fmt"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// pruneChecks are about remote.Pruner; a backend without it passes.
var pruneChecks = []check{
	{"Prune", checkPrune},
	{"PruneForeign", checkPruneForeign},
	{"PruneChanged", checkPruneChanged},
	{"PruneErrors", checkPruneErrors},
	{"PruneLarge", checkPruneLarge},
}

// pruner returns the Pruner, or false if there is nothing to check.
func (e *env) pruner() (remote.Pruner, bool) {
	e.Helper()
	p, ok := remote.As[remote.Pruner](e.b)
	if !ok || !p.Prunes() {
		e.Log("the backend has not this ability")
		return nil, false
	}
	return p, true
}

// knownBelow returns all that is below dir.
func (e *env) knownBelow(dir string) (all []remote.Known) {
	e.Helper()
	for _, x := range e.list(dir) {
		all = append(all, remote.Known{Path: x.Path, Type: x.Type, Version: x.Version})
		if x.Type == remote.Dir {
			all = append(all, e.knownBelow(x.Path)...)
		}
	}
	return all
}

// checkPrune removes trees of which all is known, and some of which less is there.
func checkPrune(e *env) {
	p, ok := e.pruner()
	if !ok {
		return
	}
	e.mkdir("/outside")
	e.put("/outside/kept", []byte("kept"))
	e.mkdir("/tree 2") // a name that begins alike
	e.put("/tree 2/f", []byte("2"))
	e.put("/tree.txt", []byte("text"))
	e.plantTree("/tree")
	e.plantTree("/outside/tree")
	e.plantTree("/less")
	for _, path := range []string{"/tree/empty", "/tree/d'x", "/tree", "/outside/tree"} {
		known := e.knownBelow(path)
		if err := p.Prune(e.ctx, path, known); err != nil {
			e.Fatalf("pruning %q: %v", path, err)
		}
		e.wantNothing(path)
		e.wantKind(p.Prune(e.ctx, path, known), "pruning again "+path, remote.NotExist)
	}
	known := e.knownBelow("/less")
	e.remove("/less/f", remote.File)
	e.remove("/less/a b/deep/g", remote.File)
	e.remove("/less/a b/deep", remote.Dir)
	e.remove("/less/empty", remote.Dir)
	if err := p.Prune(e.ctx, "/less", known); err != nil {
		e.Fatalf("pruning what is there no more in part: %v", err)
	}
	e.wantNames("/", "outside", "tree 2", "tree.txt")
	e.wantNames("/outside", "kept")
	e.wantContent("/outside/kept", []byte("kept"))
	e.wantContent("/tree 2/f", []byte("2"))
	e.wantContent("/tree.txt", []byte("text"))
}

// checkPruneForeign wants a tree to stay as it is if something is in it that is not known.
func checkPruneForeign(e *env) {
	p, ok := e.pruner()
	if !ok {
		return
	}
	e.plantTree("/t")
	known := e.knownBelow("/t")
	for _, path := range []string{"/t/theirs", "/t/empty/theirs", "/t/a b/deep/theirs"} {
		e.put(path, []byte("theirs"))
		e.wantKind(p.Prune(e.ctx, "/t", known), "pruning with "+path, remote.Conflict)
		e.wantContent(path, []byte("theirs"))
		e.wantContent("/t/f", []byte("f"))
		e.remove(path, remote.File)
		e.mkdir(path)
		e.wantKind(p.Prune(e.ctx, "/t", known), "pruning with the directory "+path, remote.Conflict)
		e.wantNames(path)
		e.remove(path, remote.Dir)
	}
	if now := e.knownBelow("/t"); len(now) != len(known) {
		e.Errorf("of %d entries %d are left", len(known), len(now))
	}
	if err := p.Prune(e.ctx, "/t", known); err != nil {
		e.Errorf("pruning afterwards: %v", err)
	}
	e.wantNothing("/t")
}

// checkPruneChanged wants a tree to stay if something in it is another than is known.
func checkPruneChanged(e *env) {
	p, ok := e.pruner()
	if !ok {
		return
	}
	e.plantTree("/t")
	known := e.knownBelow("/t")
	for _, path := range []string{"/t/f", "/t/a b/deep/g"} {
		before := e.stat(path)
		e.put(path, []byte("another content, longer than it was"))
		if e.distinct(before, e.stat(path)) {
			e.wantKind(p.Prune(e.ctx, "/t", known), "pruning with another "+path, remote.Conflict)
		}
		e.wantContent(path, []byte("another content, longer than it was"))
		known = e.knownBelow("/t")
	}
	e.remove("/t/empty", remote.Dir)
	e.put("/t/empty", []byte("a file"))
	e.wantKind(p.Prune(e.ctx, "/t", known), "pruning with a file for a directory", remote.Conflict)
	e.wantContent("/t/empty", []byte("a file"))
	known = e.knownBelow("/t")
	e.remove("/t/f", remote.File)
	e.mkdir("/t/f")
	e.wantKind(p.Prune(e.ctx, "/t", known), "pruning with a directory for a file", remote.Conflict)
	e.wantNames("/t/f")
}

func checkPruneErrors(e *env) {
	p, ok := e.pruner()
	if !ok {
		return
	}
	e.mkdir("/d")
	e.put("/d/f", []byte("kept"))
	file := remote.Known{Path: "/d/f", Type: remote.File, Version: e.stat("/d/f").Version}
	for what, known := range map[string][]remote.Known{
		"itself":             {file, {Path: "/d", Type: remote.Dir}},
		"what is outside":    {file, {Path: "/e", Type: remote.Dir}},
		"the same twice":     {file, file},
		"nothing of a type":  {{Path: "/d/f", Version: "v"}},
		"a missing version":  {{Path: "/d/f", Type: remote.File}},
		"an impossible path": {file, {Path: "/d/../x", Type: remote.Dir}},
	} {
		e.wantKind(p.Prune(e.ctx, "/d", known), "pruning with "+what, remote.Invalid)
	}
	e.wantKind(p.Prune(e.ctx, "/", nil), "pruning all", remote.Invalid)
	e.wantKind(p.Prune(e.ctx, "/d/f", nil), "pruning a file", remote.NotDir)
	e.wantKind(p.Prune(e.ctx, "/d/f/x", nil), "pruning below a file", remote.NotDir, remote.NotExist)
	for _, path := range []string{"/none", "/none/deep", "/d/none"} {
		e.wantKind(p.Prune(e.ctx, path, nil), "pruning "+path, remote.NotExist)
	}
	e.wantKind(p.Prune(e.ctx, "/d", nil), "pruning what is not known", remote.Conflict)
	e.wantContent("/d/f", []byte("kept"))
}

// checkPruneLarge wants a large tree to go, and whoever watches to be told.
func checkPruneLarge(e *env) {
	p, ok := e.pruner()
	if !ok {
		return
	}
	e.mkdir("/tree")
	dirs := 5
	for d := range dirs {
		e.mkdir(fmt.Sprintf("/tree/%d", d))
		for i := range min(e.LargeDir, 300) / dirs {
			e.put(fmt.Sprintf("/tree/%d/%d", d, i), nil)
		}
	}
	e.put("/kept", []byte("kept"))
	var ticks atomic.Int64
	if err := p.Prune(remote.WithProgress(e.ctx, func() { ticks.Add(1) }), "/tree", e.knownBelow("/tree")); err != nil {
		e.Fatalf("pruning a large tree: %v", err)
	}
	if ticks.Load() == 0 {
		e.Error("no progress was told")
	}
	e.wantNames("/", "kept")
}
