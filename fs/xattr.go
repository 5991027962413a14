package fs

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// xattrPrefix begins the names of all attributes that meshmount makes up.
const xattrPrefix = "user.meshmount."

// xattrs returns the extended attributes of path.
func (f *FS) xattrs(ctx context.Context, path string) (map[string]string, error) {
	a, err := f.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			out[xattrPrefix+name] = value
		}
	}
	if path == "/" {
		put("pid", strconv.Itoa(os.Getpid()))
	}
	b, rel := f.ns.resolve(path)
	if b == nil {
		put("state", "synthetic")
		return out, nil
	}
	state := "clean"
	if x := f.opened(path); x != nil && x.local() {
		state = "dirty"
	}
	put("state", state)
	put("branch", b.prefix)
	put("dialect", b.caps().Dialect)
	put("version", a.Version)
	if l, ok := remote.As[remote.Locator](b.Backend); ok {
		put("url", l.URL(rel))
	}
	if state == "clean" {
		if e, _, err := b.meta.stat(ctx, rel, false); err == nil && e.Checksum.Hex != "" {
			put("checksum", e.Checksum.Algorithm+":"+e.Checksum.Hex)
		}
	}
	return out, nil
}

// GetXattr returns the value of an extended attribute, or NoXattr.
func (f *FS) GetXattr(ctx context.Context, path, name string) ([]byte, error) {
	if !strings.HasPrefix(name, xattrPrefix) {
		// The kernel asks for security.capability at each write: no request for that.
		return nil, fail("getxattr", path, remote.NoXattr, nil)
	}
	all, err := f.xattrs(ctx, path)
	if err != nil {
		return nil, err
	}
	v, ok := all[name]
	if !ok {
		return nil, fail("getxattr", path, remote.NoXattr, nil)
	}
	return []byte(v), nil
}

// ListXattr returns the names of all extended attributes, sorted.
func (f *FS) ListXattr(ctx context.Context, path string) ([]string, error) {
	all, err := f.xattrs(ctx, path)
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, err
}

// SetXattr refuses with Unsupported: meshmount's own attributes are facts, and the
// branches of this kind keep no others. It is the error that cp -a, which copies our
// attributes along, takes for what it is.
func (f *FS) SetXattr(_ context.Context, path, name string, _ []byte, _ int) error {
	return refuseXattr("setxattr", path, name)
}

// RemoveXattr refuses like SetXattr.
func (f *FS) RemoveXattr(_ context.Context, path, name string) error {
	return refuseXattr("removexattr", path, name)
}

func refuseXattr(op, path, name string) error {
	if strings.HasPrefix(name, xattrPrefix) {
		return fail(op, path, remote.Unsupported, errors.New("the attribute is made up by meshmount"))
	}
	return fail(op, path, remote.Unsupported, errors.New("the branch keeps no extended attributes"))
}
