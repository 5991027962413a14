package remote

import "context"

// Pruner is the ability to remove a directory whose whole content the caller knows, in far
// fewer requests than one for each entry.
type Pruner interface {
	// Prunes tells whether Prune can do anything. It costs no request.
	Prunes() bool

	// Prune removes the directory at path with all that is below it, after it has proved
	// that nothing is there but what is in known: for each entry below path one of that
	// path, a directory if known has one there and none otherwise, and a file or link of
	// that version. What is in known and not there does no harm. Anything else is Conflict;
	// then nothing was removed. The directory itself is not in known, and its own version
	// is not looked at, nor are those of directories.
	//
	// What others change between the proof and the removal may go with it, as in Remove of
	// a directory. It calls Progress as it goes on.
	//
	// It is not atomic. After an error that is Unsure a part may be gone, and the same call
	// again removes the rest. Errors: NotExist if nothing is at path, NotDir if it is
	// something else, Invalid for "/", Unsupported if this tree can only be removed entry
	// by entry; then nothing was done.
	Prune(ctx context.Context, path string, known []Known) error
}

// Foreseer is the ability of a Pruner to look ahead.
type Foreseer interface {
	// Foresees tells whether Foresee can be of use. It costs no request.
	Foresees() bool

	// Foresee looks at the directory at path, as a Prune of it, or of a directory around it,
	// is likely to come within seconds. What it sees takes the place of the look of a Prune
	// for a few seconds, at most three; what others change in the directory after that may
	// go with it then. It is for directories in which nothing is left by what was removed
	// here. The error is only of interest to those that watch the server: Prune looks for
	// itself then. Unsupported if the adapter has not this ability.
	Foresee(ctx context.Context, path string) error
}

// Known is one entry below a directory that is to be pruned.
type Known struct {
	Path    string // from the root of the branch
	Type    Type
	Version string // of a file or symbolic link; never empty. Of a directory it is ignored.
}

// KnownPaths makes a table of what may be below dir, by path. Invalid: an entry is not below
// it, is there twice, or is a file without a version.
func KnownPaths(op, dir string, known []Known) (map[string]Known, error) {
	all := make(map[string]Known, len(known))
	for _, k := range known {
		_, twice := all[k.Path]
		switch {
		case CheckPath(op, k.Path) != nil, k.Path == dir, !Within(k.Path, dir), twice,
			k.Type < File || k.Type > Symlink, k.Type != Dir && k.Version == "":
			return nil, &Error{Op: op, Path: k.Path, Kind: Invalid}
		}
		all[k.Path] = k
	}
	return all, nil
}

// Prunes implements Pruner. It is false if the adapter has not this ability.
func (d *decorator) Prunes() bool {
	inner, ok := As[Pruner](d.inner)
	return ok && inner.Prunes()
}

// Prune implements Pruner.
func (d *decorator) Prune(ctx context.Context, path string, known []Known) error {
	c := &Call{Op: OpPrune, Path: path, Known: known}
	inner, ok := As[Pruner](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error { return inner.Prune(ctx, c.Path, c.Known) })
}

// Foresees implements Foreseer. It is false if the adapter has not this ability.
func (d *decorator) Foresees() bool {
	inner, ok := As[Foreseer](d.inner)
	return ok && inner.Foresees()
}

// Foresee implements Foreseer.
func (d *decorator) Foresee(ctx context.Context, path string) error {
	c := &Call{Op: OpForesee, Path: path}
	inner, ok := As[Foreseer](d.inner)
	if !ok {
		return c.Fail(Unsupported, errNoAbility)
	}
	return d.run(ctx, c, func(ctx context.Context) error { return inner.Foresee(ctx, c.Path) })
}
