package memory

import (
	"bytes"
	"context"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// XattrPrefix begins the names of all extended attributes.
const XattrPrefix = "user.memory."

// XattrPrefix implements remote.Xattrer.
func (b *Backend) XattrPrefix() string { return XattrPrefix }

// Xattrs implements remote.Xattrer. Links have attributes of their own.
func (b *Backend) Xattrs(ctx context.Context, path string) (map[string][]byte, error) {
	if err := b.begin(ctx, "xattrs", path); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find("xattrs", path)
	if err != nil {
		return nil, err
	}
	all := make(map[string][]byte, len(n.xattrs))
	for name, value := range n.xattrs {
		all[name] = bytes.Clone(value)
	}
	return all, nil
}

// SetXattr implements remote.Xattrer.
func (b *Backend) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	if err := b.beginChange(ctx, "setxattr", path); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "setxattr", path); err != nil {
		return err
	}
	n, err := b.find("setxattr", path)
	if err != nil {
		return err
	}
	_, there := n.xattrs[name]
	switch {
	case !b.keepsXattr(name, value):
		return fail("setxattr", path, remote.Invalid)
	case there && mode == remote.XattrCreate:
		return fail("setxattr", path, remote.Exist)
	case !there && mode == remote.XattrReplace:
		return fail("setxattr", path, remote.NoXattr)
	}
	if n.xattrs == nil {
		n.xattrs = map[string][]byte{}
	}
	n.xattrs[name] = bytes.Clone(value)
	return nil
}

func (b *Backend) keepsXattr(name string, value []byte) bool {
	switch {
	case !strings.HasPrefix(name, XattrPrefix), name == XattrPrefix, strings.Contains(name, "\x00"):
		return false
	}
	return b.opts.RefuseXattr == nil || !b.opts.RefuseXattr(name, value)
}

// RemoveXattr implements remote.Xattrer.
func (b *Backend) RemoveXattr(ctx context.Context, path, name string) error {
	if err := b.beginChange(ctx, "removexattr", path); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.alive(ctx, "removexattr", path); err != nil {
		return err
	}
	n, err := b.find("removexattr", path)
	if err != nil {
		return err
	}
	if _, there := n.xattrs[name]; !there {
		return fail("removexattr", path, remote.NoXattr)
	}
	delete(n.xattrs, name)
	return nil
}

// Replicas implements remote.Replicator: there is one, and it is good. A link has
// none (Invalid).
func (b *Backend) Replicas(ctx context.Context, path string) ([]remote.Replica, error) {
	if err := b.begin(ctx, "replicas", path); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find("replicas", path)
	switch {
	case err != nil:
		return nil, err
	case n.kind == remote.Dir:
		return nil, fail("replicas", path, remote.IsDir)
	case n.kind == remote.Symlink:
		return nil, fail("replicas", path, remote.Invalid)
	}
	e := b.entry(path, n)
	return []remote.Replica{{
		Resource: "memory", State: remote.ReplicaGood, Size: e.Size, MTime: e.MTime, Checksum: e.Checksum,
	}}, nil
}
