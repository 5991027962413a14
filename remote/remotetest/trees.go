package remotetest

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// treeRemovalChecks are about remote.TreeRemover and remote.Replicator; a backend
// without them passes.
var treeRemovalChecks = []check{
	{"RemoveTree", checkRemoveTree},
	{"RemoveTreeErrors", checkRemoveTreeErrors},
	{"RemoveTreeLarge", checkRemoveTreeLarge},
	{"Replicas", checkReplicas},
}

// plantTree makes a tree with a bit of everything at dir.
func (e *env) plantTree(dir string) {
	e.Helper()
	e.mkdir(dir)
	for _, name := range []string{"a b", "%41", "empty", "d'x"} {
		e.mkdir(remote.Join(dir, name))
		if name != "empty" {
			e.put(dir+"/"+name+"/f", []byte(name))
			e.mkdir(dir + "/" + name + "/deep")
			e.put(dir+"/"+name+"/deep/g", nil)
		}
	}
	e.put(dir+"/f", []byte("f"))
	if s := e.symlinker(); s != nil {
		for name, target := range map[string]string{"link": "../outside", "dangling": "nowhere"} {
			if _, err := s.Symlink(e.ctx, remote.Join(dir, name), target); err != nil {
				e.Fatalf("symlink: %v", err)
			}
		}
	}
}

func checkRemoveTree(e *env) {
	r, ok := remote.As[remote.TreeRemover](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	e.mkdir("/outside")
	e.put("/outside/kept", []byte("kept"))
	e.mkdir("/tree 2") // a name that begins alike
	e.put("/tree 2/f", []byte("2"))
	e.put("/tree.txt", []byte("text"))
	e.plantTree("/tree")
	e.plantTree("/outside/tree")
	for _, path := range []string{"/tree/empty", "/tree/d'x", "/tree", "/outside/tree"} {
		if err := r.RemoveTree(e.ctx, path); err != nil {
			e.Fatalf("removal of the tree %q: %v", path, err)
		}
		e.wantNothing(path)
		e.wantKind(r.RemoveTree(e.ctx, path), "second removal of "+path, remote.NotExist)
	}
	e.wantNothing("/tree/f")
	e.wantNames("/", "outside", "tree 2", "tree.txt")
	e.wantNames("/outside", "kept")
	e.wantContent("/outside/kept", []byte("kept"))
	e.wantContent("/tree 2/f", []byte("2"))
	e.wantContent("/tree.txt", []byte("text"))
	e.mkdir("/tree")
	e.wantNames("/tree")
}

func checkRemoveTreeErrors(e *env) {
	r, ok := remote.As[remote.TreeRemover](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	e.mkdir("/d")
	e.put("/d/f", []byte("kept"))
	e.wantKind(r.RemoveTree(e.ctx, "/"), "removal of all", remote.Invalid)
	e.wantKind(r.RemoveTree(e.ctx, "/d/f"), "removal of a file as a tree", remote.NotDir)
	e.wantKind(r.RemoveTree(e.ctx, "/d/f/x"), "removal below a file", remote.NotDir, remote.NotExist)
	for _, path := range []string{"/none", "/none/deep", "/d/none"} {
		e.wantKind(r.RemoveTree(e.ctx, path), "removal of "+path, remote.NotExist)
	}
	e.wantContent("/d/f", []byte("kept"))
	s := e.symlinker()
	if s == nil {
		return
	}
	if _, err := s.Symlink(e.ctx, "/l", "d"); err != nil {
		e.Fatalf("symlink: %v", err)
	}
	e.wantKind(r.RemoveTree(e.ctx, "/l"), "removal of a link as a tree", remote.NotDir)
	e.wantNames("/", "d", "l")
	e.wantNames("/d", "f")
}

// checkRemoveTreeLarge wants a large tree to go, and whoever watches to be told.
func checkRemoveTreeLarge(e *env) {
	r, ok := remote.As[remote.TreeRemover](e.b)
	if !ok {
		e.Log("the backend has not this ability")
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
	if err := r.RemoveTree(remote.WithProgress(e.ctx, func() { ticks.Add(1) }), "/tree"); err != nil {
		e.Fatalf("removal of a large tree: %v", err)
	}
	if ticks.Load() == 0 {
		e.Error("no progress was told")
	}
	e.wantNothing("/tree")
	e.wantNames("/", "kept")
}

func checkReplicas(e *env) {
	r, ok := remote.As[remote.Replicator](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	e.mkdir("/d")
	for _, text := range []string{"first", "", "a longer content"} {
		e.put("/d/f", []byte(text))
		all, err := r.Replicas(e.ctx, "/d/f")
		if err != nil {
			e.Fatalf("replicas: %v", err)
		}
		e.wantReplicas(all, e.stat("/d/f"))
	}
	_, err := r.Replicas(e.ctx, "/d")
	e.wantKind(err, "replicas of a directory", remote.IsDir)
	for _, path := range []string{"/none", "/none/deep"} {
		_, err := r.Replicas(e.ctx, path)
		e.wantKind(err, "replicas of "+path, remote.NotExist)
	}
}

// wantReplicas checks the copies of a file that was stored whole.
func (e *env) wantReplicas(all []remote.Replica, of remote.Entry) {
	e.Helper()
	states := []remote.ReplicaState{remote.ReplicaGood, remote.ReplicaStale, remote.ReplicaIntermediate, remote.ReplicaLocked}
	good := 0
	for i, r := range all {
		if i > 0 && r.Number <= all[i-1].Number {
			e.Errorf("the replicas are not sorted by their numbers: %+v", all)
		}
		if r.Resource == "" || !slices.Contains(states, r.State) {
			e.Errorf("a replica is %+v", r)
		}
		if r.State != remote.ReplicaGood {
			continue
		}
		good++
		none := remote.Checksum{}
		if r.Size != of.Size && r.Size != -1 || r.Checksum != none && of.Checksum != none && r.Checksum != of.Checksum {
			e.Errorf("a good replica is %+v, the file %+v", r, of)
		}
	}
	if good == 0 {
		e.Errorf("no replica is good: %+v", all)
	}
}
