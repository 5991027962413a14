package keep

import (
	"context"
	"errors"
	"sync"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// Prunes implements remote.Pruner.
func (k *Backend) Prunes() bool {
	p, ok := remote.As[remote.Pruner](k.inner)
	return ok && p.Prunes()
}

// Prune implements remote.Pruner. The tree is listed, what shows in it is compared with what is
// known, and then it is pruned with what these listings have found on the server.
func (k *Backend) Prune(ctx context.Context, path string, known []remote.Known) error {
	p, ok := remote.As[remote.Pruner](k.inner)
	if !ok {
		return fail("prune", path, remote.Unsupported)
	}
	if err := k.visible(ctx, "prune", path); err != nil {
		return err
	}
	table, err := remote.KnownPaths("prune", path, known)
	if err != nil || path == "/" {
		return firstOf(err, fail("prune", path, remote.Invalid))
	}
	t := &proof{k: k, table: table}
	err = t.tree(ctx, path)
	switch {
	case isKind(err, remote.NotExist, remote.NotDir):
		return k.explain(ctx, "prune", path, remote.NotDir, err)
	case err != nil:
		return err
	}
	if err = p.Prune(ctx, path, t.found); err == nil || isUnsure(err) {
		k.forget(path)
	}
	return err
}

// proof is what is found of a tree while it is compared.
type proof struct {
	k     *Backend
	table map[string]remote.Known

	mu    sync.Mutex
	found []remote.Known // guarded by mu; of the server
	dirs  []string       // guarded by mu; to be listed
}

// tree lists a directory and all below it.
func (t *proof) tree(ctx context.Context, path string) error {
	for now := []string{path}; len(now) > 0; {
		errs := make([]error, len(now))
		parallel(len(now), func(i int) { errs[i] = t.dir(ctx, now[i]) })
		for i, err := range errs {
			if err != nil && (now[i] == path || !missing(err)) {
				return err
			}
		}
		now, t.dirs = t.dirs, nil
	}
	return nil
}

// dir lists one directory.
func (t *proof) dir(ctx context.Context, dir string) error {
	var plain []remote.Entry
	names := newMarks()
	v, err := t.k.listed(ctx, dir, "", func(e remote.Entry) error {
		if names.first(e) {
			plain = append(plain, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range v.shown() {
		path := remote.Join(dir, s.name)
		if want, ok := t.table[path]; !ok || want.Type != remote.File || want.Version != s.claim[0].Version() {
			return differs(path)
		}
	}
	hidden, ok := v.raw.known()
	if !ok || len(v.raw.odd) > 0 {
		return fail("prune", dir, remote.Unsupported)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.found = append(t.found, hidden...)
	for _, e := range plain {
		want, ok := t.table[e.Path]
		if !ok || (want.Type == remote.Dir) != (e.Type == remote.Dir) || archive.IsVersion(want.Version) && e.Type != remote.Dir {
			return differs(e.Path)
		}
		t.found = append(t.found, want)
		if e.Type == remote.Dir {
			t.dirs = append(t.dirs, e.Path)
		}
	}
	return nil
}

// differs is the error of an entry that is not known.
func differs(path string) error {
	return &remote.Error{Op: "prune", Path: path, Kind: remote.Conflict, Err: errors.New("it is not what is known")}
}

// RemoveTree implements remote.TreeRemover. Archives go with their directories.
func (k *Backend) RemoveTree(ctx context.Context, path string) error {
	r, ok := remote.As[remote.TreeRemover](k.inner)
	if !ok {
		return fail("removetree", path, remote.Unsupported)
	}
	if err := k.visible(ctx, "removetree", path); err != nil {
		return err
	}
	err := r.RemoveTree(ctx, path)
	if missing(err) {
		return k.explain(ctx, "removetree", path, remote.NotDir, err)
	}
	k.forget(path)
	return err
}

// Foresees implements remote.Foreseer: what of a directory is alive is only known when its archives
// have been read.
func (k *Backend) Foresees() bool { return false }

// Foresee implements remote.Foreseer.
func (k *Backend) Foresee(_ context.Context, path string) error {
	return fail("foresee", path, remote.Unsupported)
}
