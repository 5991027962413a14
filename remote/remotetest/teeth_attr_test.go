package remotetest_test

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// replacing makes a new file of each Put, which has no attributes.
type replacing struct{ *memory.Backend }

// Put implements remote.Backend.
func (b replacing) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	_, err := b.Backend.Put(ctx, path+".tmp", src, remote.PutOptions{})
	if err != nil {
		return remote.Entry{}, err
	}
	if err := b.Rename(ctx, path+".tmp", path, remote.RenameOptions{}); err != nil {
		return remote.Entry{}, err
	}
	return b.Stat(ctx, path)
}

// rewriting puts a file anew when an attribute of it is set.
type rewriting struct{ *memory.Backend }

// SetXattr implements remote.Xattrer.
func (b rewriting) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	if err := b.Backend.SetXattr(ctx, path, name, value, mode); err != nil {
		return err
	}
	e, err := b.Stat(ctx, path)
	if err != nil || e.Type != remote.File || e.Size == 0 {
		return err
	}
	data := make([]byte, e.Size)
	if _, err = b.ReadAt(ctx, remote.Ref{Path: path, Size: e.Size}, data, 0); err == nil {
		_, err = b.Put(ctx, path, remotetest.Bytes(data), remote.PutOptions{})
	}
	return err
}

// pruning takes other entries for known than it is told.
type pruning struct {
	*memory.Backend
	change func(known, now []remote.Known) []remote.Known
}

// Prune implements remote.Pruner.
func (b pruning) Prune(ctx context.Context, path string, known []remote.Known) error {
	var now []remote.Known
	var walk func(dir string) error
	walk = func(dir string) error {
		return b.List(ctx, dir, func(e remote.Entry) error {
			now = append(now, remote.Known{Path: e.Path, Type: e.Type, Version: e.Version})
			if e.Type == remote.Dir {
				return walk(e.Path)
			}
			return nil
		})
	}
	if err := walk(path); err != nil {
		return err
	}
	return b.Backend.Prune(ctx, path, b.change(known, now))
}

// newVersions gives what is known the versions of now.
func newVersions(known, now []remote.Known) []remote.Known {
	known = slices.Clone(known)
	for i, k := range known {
		if j := slices.IndexFunc(now, func(n remote.Known) bool { return n.Path == k.Path && n.Type == k.Type }); j >= 0 {
			known[i] = now[j]
		}
	}
	return known
}

// greedy removes with a tree all whose names begin alike.
type greedy struct{ *memory.Backend }

// RemoveTree implements remote.TreeRemover.
func (b greedy) RemoveTree(ctx context.Context, path string) error {
	dir, _ := remote.Split(path)
	var alike []string
	err := b.List(ctx, dir, func(e remote.Entry) error {
		if e.Type == remote.Dir && e.Path != path && strings.HasPrefix(e.Path, path) {
			alike = append(alike, e.Path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, other := range alike {
		if err := b.Backend.RemoveTree(ctx, other); err != nil {
			return err
		}
	}
	return b.Backend.RemoveTree(ctx, path)
}

// stuck takes each mark for one of just now.
type stuck struct{ *memory.Backend }

// Changed implements remote.Tracker.
func (b stuck) Changed(ctx context.Context, dir, mark string) (remote.Changes, error) {
	now, err := b.Backend.Changed(ctx, dir, "")
	if mark == "" || err != nil {
		return now, err
	}
	return b.Backend.Changed(ctx, dir, now.Mark)
}

var attributeMutants = map[string]mutant{
	"forgets attributes":           {"Xattrs", on(remote.OpSetXattr, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"keeps attributes":             {"Xattrs", on(remote.OpRemoveXattr, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"shows attributes of others":   {"Xattrs", edit(remote.OpXattrs, func(c *remote.Call) { c.Path = "/" })},
	"rewrites for attributes":      {"Xattrs", func() remote.Backend { return rewriting{memory.New(memory.Options{})} }},
	"ignores attribute modes":      {"XattrModes", edit(remote.OpSetXattr, func(c *remote.Call) { c.XattrMode = remote.XattrAny })},
	"replaces what is not there":   {"XattrModes", forgiving(remote.OpSetXattr, remote.NoXattr)},
	"sets attributes of nothing":   {"XattrErrors", forgiving(remote.OpSetXattr, remote.NotExist)},
	"lists attributes of nothing":  {"XattrErrors", forgiving(remote.OpXattrs, remote.NotExist)},
	"takes any attribute name":     {"XattrErrors", forgiving(remote.OpSetXattr, remote.Invalid)},
	"removes attributes not there": {"XattrErrors", forgiving(remote.OpRemoveXattr, remote.NoXattr)},
	"trims values":                 {"XattrBytes", edit(remote.OpSetXattr, func(c *remote.Call) { c.Value = bytes.TrimSpace(c.Value) })},
	"folds attribute names": {"XattrBytes", around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		c.Name = strings.ToLower(c.Name)
		return next(ctx)
	})},
	"swallows odd values": {"XattrBytes", on(remote.OpSetXattr, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if bytes.ContainsRune(c.Value, 0) {
			return nil
		}
		return next(ctx)
	})},
	"loses attributes by puts": {"XattrLife", func() remote.Backend { return replacing{memory.New(memory.Options{})} }},
	"forgets removed values":   {"Model", on(remote.OpRemoveXattr, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"has no replicas":          {"Replicas", spoil(remote.OpReplicas, func(c *remote.Call) { c.Replicas = nil })},
	"has only stale replicas": {"Replicas", spoil(remote.OpReplicas, func(c *remote.Call) {
		for i := range c.Replicas {
			c.Replicas[i].State = remote.ReplicaStale
		}
	})},
	"shows another size": {"Replicas", spoil(remote.OpReplicas, func(c *remote.Call) {
		for i := range c.Replicas {
			c.Replicas[i].Size++
		}
	})},
	"has replicas of directories": {"Replicas", forgiving(remote.OpReplicas, remote.IsDir)},
	"leaves trees":                {"RemoveTree", on(remote.OpRemoveTree, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"removes trees not there":     {"RemoveTree", forgiving(remote.OpRemoveTree, remote.NotExist)},
	"removes by prefix":           {"RemoveTree", func() remote.Backend { return greedy{memory.New(memory.Options{})} }},
	"removes files as trees":      {"RemoveTreeErrors", forgiving(remote.OpRemoveTree, remote.NotDir)},
	"removes the root":            {"RemoveTreeErrors", forgiving(remote.OpRemoveTree, remote.Invalid)},
	"removes without progress": {"RemoveTreeLarge", on(remote.OpRemoveTree, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		return next(remote.WithProgress(ctx, func() {}))
	})},
	"prunes without a look": {"PruneForeign", func() remote.Backend {
		return pruning{memory.New(memory.Options{}), func(_, now []remote.Known) []remote.Known { return now }}
	}},
	"prunes what was changed": {"PruneChanged", func() remote.Backend { return pruning{memory.New(memory.Options{}), newVersions} }},
	"prunes only what is whole": {"Prune", func() remote.Backend {
		return pruning{memory.New(memory.Options{}), func(known, now []remote.Known) []remote.Known { return known[:min(len(known), len(now))/2] }}
	}},
	"prunes nothing":           {"Prune", on(remote.OpPrune, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"prunes what is not there": {"Prune", forgiving(remote.OpPrune, remote.NotExist)},
	"prunes files":             {"PruneErrors", forgiving(remote.OpPrune, remote.NotDir)},
	"prunes the root":          {"PruneErrors", forgiving(remote.OpPrune, remote.Invalid)},
	"prunes without progress": {"PruneLarge", on(remote.OpPrune, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		return next(remote.WithProgress(ctx, func() {}))
	})},
	"misses changes": {"Changed", spoil(remote.OpChanged, func(c *remote.Call) { c.Changes.Dirs = nil })},
	"misses the top": {"Changed", spoil(remote.OpChanged, func(c *remote.Call) {
		c.Changes.Dirs = slices.DeleteFunc(c.Changes.Dirs, func(dir string) bool { return dir == "/" })
	})},
	"tells changes elsewhere": {"ChangedBelow", edit(remote.OpChanged, func(c *remote.Call) { c.Path = "/" })},
	"misses replaced trees": {"ChangedReplaced", around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		c.Entry.ID = ""
		c.Changes.Dirs = slices.DeleteFunc(c.Changes.Dirs, func(dir string) bool { return dir == "/c/b" })
		return err
	})},
	"looks back too late": {"Changed", func() remote.Backend { return stuck{memory.New(memory.Options{})} }},
	"trusts any mark": {"ChangedMarks", edit(remote.OpChanged, func(c *remote.Call) {
		if strings.HasPrefix(c.Mark, "no") {
			c.Mark = ""
		}
	})},
	"has no marks":              {"ChangedMarks", spoil(remote.OpChanged, func(c *remote.Call) { c.Changes.Mark = "" })},
	"tells of what is gone":     {"ChangedErrors", forgiving(remote.OpChanged, remote.NotExist)},
	"tells of what is not dirs": {"ChangedErrors", forgiving(remote.OpChanged, remote.NotDir)},
	"removes late": {"EndedContext", on(remote.OpRemoveTree, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		return next(context.WithoutCancel(ctx))
	})},
}
