package fs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// ownPrefix begins the names of all attributes that meshmount makes up.
const ownPrefix = "user.meshmount."

// locationsName is the attribute that tells where the replicas of a file are. It
// costs a request, so it is made up only for who asks for it by name.
const locationsName = ownPrefix + "locations"

// Is tells whether path stands for the object with the inode number ino, as far as
// this mount knows. It sends no request.
func (f *FS) Is(path string, ino uint64) bool { return f.inos.of(path) == ino }

// keeper is the branch that keeps extended attributes at a path.
type keeper struct {
	remote.Xattrer
	b   *branch
	rel string
	ino uint64
}

// keeper returns who keeps attributes at path; ok is false if nobody does.
func (f *FS) keeper(path string) (k keeper, ok bool) {
	b, rel := f.ns.resolve(path)
	if b == nil {
		return keeper{}, false
	}
	x, ok := remote.As[remote.Xattrer](b.Backend)
	return keeper{x, b, rel, f.inos.of(path)}, ok
}

// keeperOf returns who keeps the attribute name at path. No server is asked for
// names that it cannot have: the kernel and programs ask for security labels and
// access lists all the time.
func (f *FS) keeperOf(path, name string) (k keeper, ok bool) {
	if strings.HasPrefix(name, ownPrefix) {
		return keeper{}, false
	}
	k, ok = f.keeper(path)
	return k, ok && strings.HasPrefix(name, k.XattrPrefix())
}

// GetXattr returns the value of an extended attribute, or NoXattr. A name that
// begins with the branch's Xattrer's prefix is asked for there, user.meshmount.* is
// made up here, and there are no others.
func (f *FS) GetXattr(ctx context.Context, path, name string) ([]byte, error) {
	value, ok, err := f.xattr(ctx, path, name)
	if err == nil && !ok {
		err = fail("getxattr", path, remote.NoXattr, nil)
	}
	return value, err
}

func (f *FS) xattr(ctx context.Context, path, name string) (value []byte, ok bool, err error) {
	if err := remote.CheckPath("getxattr", path); err != nil {
		return nil, false, err
	}
	if k, is := f.keeperOf(path, name); is {
		all, err := f.kept(ctx, path, k)
		value, ok = all[name]
		return bytes.Clone(value), ok, err
	}
	if name == locationsName {
		text, err := f.locations(ctx, path)
		return []byte(text), text != "", err
	}
	if !strings.HasPrefix(name, ownPrefix) {
		return nil, false, nil
	}
	all, _, err := f.facts(ctx, path)
	text, ok := all[name]
	return []byte(text), ok, err
}

// ListXattr returns the names of all extended attributes, sorted. Names that no
// program can ask for (longer than 255 bytes) are left out.
func (f *FS) ListXattr(ctx context.Context, path string) ([]string, error) {
	facts, a, err := f.facts(ctx, path)
	if err != nil {
		return nil, err
	}
	names := slices.Collect(maps.Keys(facts))
	if f.replicator(path) != nil && a.Type == remote.File {
		names = append(names, locationsName)
	}
	if k, ok := f.keeper(path); ok && a.Type != remote.Symlink {
		all, err := f.kept(ctx, path, k)
		if err != nil {
			return nil, err
		}
		for name := range all {
			if len(name) <= nameMax && !strings.Contains(name, "\x00") {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// unborn tells whether path is a file that is still to be put to the server, which
// has nothing of it.
func (f *FS) unborn(path string) bool {
	x := f.opened(path)
	return x != nil && !x.onServer()
}

// pending tells whether the server has yet to see the content of the file at path.
func (f *FS) pending(path string) bool {
	b, rel := f.ns.resolve(path)
	if b == nil || b.Back == nil {
		return false
	}
	k, ok := b.meta.recall(rel)
	return ok && writeback.IsLocal(b.present(k.e).Version)
}

// kept returns the attributes that the server keeps at path, none if it has yet to
// see the file.
func (f *FS) kept(ctx context.Context, path string, k keeper) (map[string][]byte, error) {
	if f.unborn(path) {
		return nil, nil
	}
	all, err := f.xattrs.get(k.ino, k.b.AttrTTL, func() (map[string][]byte, error) { return k.Xattrs(ctx, k.rel) })
	k.absentIf(err)
	return all, err
}

// absentIf forgets what is known of the name if the server said that it is not there.
func (k keeper) absentIf(err error) {
	if remote.KindOf(err) == remote.NotExist {
		k.b.meta.forget(k.rel, 0)
	}
}

// SetXattr sets an extended attribute on the server, at once. A file that is still
// to be put there is put first. Exist and NoXattr are as mode wants; Unsupported if
// nobody keeps such attributes at path: meshmount's own are facts. (It is the error
// that cp -a, which copies our attributes along, takes for what it is.)
func (f *FS) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	const op = "setxattr"
	return f.changeXattr(ctx, op, path, name, func(ctx context.Context, k keeper, x *file) error {
		if x != nil && !x.onServer() {
			if mode == remote.XattrReplace {
				return fail(op, path, remote.NoXattr, nil)
			}
			if err := x.put(ctx); err != nil {
				x.tellLater(err)
				return err
			}
			if err := k.b.reach(ctx, k.rel, x, path); err != nil {
				return err
			}
		}
		return k.SetXattr(ctx, k.rel, name, value, mode)
	})
}

// RemoveXattr removes an extended attribute on the server: NoXattr if there is
// none, Unsupported like SetXattr.
func (f *FS) RemoveXattr(ctx context.Context, path, name string) error {
	const op = "removexattr"
	return f.changeXattr(ctx, op, path, name, func(ctx context.Context, k keeper, x *file) error {
		if x != nil && !x.onServer() {
			return fail(op, path, remote.NoXattr, nil)
		}
		return k.RemoveXattr(ctx, k.rel, name)
	})
}

// changeXattr lets do change an attribute of what is at path, on which x is open if
// it is not nil.
func (f *FS) changeXattr(ctx context.Context, op, path, name string, do func(context.Context, keeper, *file) error) error {
	if err := remote.CheckPath(op, path); err != nil {
		return err
	}
	k, ok := f.keeperOf(path, name)
	if !ok {
		return refuseXattr(op, path, name)
	}
	if _, _, err := f.writable(op, path); err != nil {
		return err
	}
	unlock := f.paths.lock(one(path))
	x, release := f.grab(path)
	// The last reference may have something to put, which needs the lock.
	defer func() { unlock(); release() }()
	k.ino = f.inos.of(path)
	if err := k.b.reach(ctx, k.rel, x, path); err != nil {
		return err
	}
	err := do(context.WithoutCancel(ctx), k, x)
	f.xattrs.changed(k.ino)
	k.absentIf(err)
	return err
}

func refuseXattr(op, path, name string) error {
	if strings.HasPrefix(name, ownPrefix) {
		return fail(op, path, remote.Unsupported, errors.New("the attribute is made up by meshmount"))
	}
	return fail(op, path, remote.Unsupported, fmt.Errorf("nobody keeps the attribute %q there", name))
}

// facts returns the extended attributes that meshmount makes up, and the attributes
// of path.
func (f *FS) facts(ctx context.Context, path string) (map[string]string, Attr, error) {
	a, err := f.Stat(ctx, path)
	if err != nil {
		return nil, a, err
	}
	out := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			out[ownPrefix+name] = value
		}
	}
	if path == "/" {
		put("pid", strconv.Itoa(os.Getpid()))
	}
	b, rel := f.ns.resolve(path)
	if b == nil {
		put("state", "synthetic")
		return out, a, nil
	}
	state := "clean"
	if x := f.opened(path); x != nil && x.local() {
		state = "dirty"
	} else if b.Back != nil {
		state = cmp.Or(b.Back.State(rel), state)
	}
	put("state", state)
	put("branch", b.prefix)
	put("dialect", b.caps().Dialect)
	if !writeback.IsLocal(a.Version) {
		put("version", a.Version)
	}
	if l, ok := remote.As[remote.Locator](b.Backend); ok {
		put("url", l.URL(rel))
	}
	if state == "clean" {
		put("checksum", b.checksum(ctx, rel, a.Version))
	}
	return out, a, nil
}

// checksum returns the server's checksum of that version of the file, "" if it shows
// none. The entry has just been asked for.
func (b *branch) checksum(ctx context.Context, rel, version string) string {
	k, _, _ := b.meta.lookup(rel)
	e := k.e
	if e.Path != rel {
		e, _, _ = b.meta.stat(ctx, rel, false) // an error is no checksum
	}
	if e.Checksum.Hex == "" || e.Version != version {
		return ""
	}
	return e.Checksum.Algorithm + ":" + e.Checksum.Hex
}

// replicator returns who tells the replicas of the file at path, nil if nobody does.
func (f *FS) replicator(path string) remote.Replicator {
	b, _ := f.ns.resolve(path)
	if b == nil || f.unborn(path) || f.pending(path) {
		return nil
	}
	r, ok := remote.As[remote.Replicator](b.Backend)
	if !ok {
		return nil
	}
	return r
}

// locations returns one line for each replica of the file at path: its number,
// resource, state, and host if that is known. It is "" where there are no replicas.
func (f *FS) locations(ctx context.Context, path string) (string, error) {
	r := f.replicator(path)
	if r == nil {
		return "", nil
	}
	b, rel := f.ns.resolve(path)
	return f.replicas.get(f.inos.of(path), b.AttrTTL, func() (string, error) {
		all, err := r.Replicas(ctx, rel)
		if k := remote.KindOf(err); err != nil && (k == remote.IsDir || k == remote.Invalid) {
			return "", nil // no file
		}
		return describe(all), err
	})
}

func describe(all []remote.Replica) string {
	lines := make([]string, len(all))
	for i, r := range all {
		lines[i] = fmt.Sprintf("%d %s %s", r.Number, r.Resource, r.State)
		if r.Host != "" {
			lines[i] += " " + r.Host
		}
	}
	return strings.Join(lines, "\n")
}
