package keep

import (
	"context"
	"strings"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// InSteps implements remote.Replacer: members give way to plain files.
func (k *Backend) InSteps(version string) bool { return archive.IsVersion(version) }

// Former implements remote.Replacer.
func (k *Backend) Former(e remote.Entry) (path string, ok bool) {
	if e.Type != remote.File || !archive.IsVersion(e.Version) {
		return "", false
	}
	dir, name := remote.Split(e.Path)
	at := strings.LastIndex(name, conflictMark)
	if at <= 0 || len(name) == maxName { // that may have been cut
		return "", false
	}
	luck, when, ok := strings.Cut(name[at+len(conflictMark):], "-")
	if !ok || luck == "" || when == "" || strings.Trim(luck, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || strings.Trim(when, "0123456789T-") != "" {
		return "", false
	}
	return remote.Join(dir, name[:at]), true
}

// Became implements remote.Replacer: a member may have been unpacked.
func (k *Backend) Became(ctx context.Context, e remote.Entry, version string) (bool, error) {
	if e.Type != remote.File || !archive.IsVersion(version) || archive.IsVersion(e.Version) {
		return false, nil
	}
	_, err := k.now(ctx, "stat", e, remote.Cond{Version: version})
	if isKind(err, remote.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// Replaced implements remote.Replacer. What it declares dead is what the change was to replace,
// by its version, or has the bytes of the plain file, which is seen once more before that.
func (k *Backend) Replaced(ctx context.Context, e remote.Entry, version string) error {
	if archive.IsVersion(e.Version) || e.Type == remote.Dir {
		return nil // a member goes in one step, and nothing was made of it yet
	}
	look := k.hint
	if archive.IsVersion(version) {
		look = k.look
	}
	dir, name := remote.Split(e.Path)
	v, err := look(ctx, dir)
	if isKind(err, remote.NotExist, remote.NotDir) {
		return nil
	}
	if err != nil {
		return as("put", e.Path, err)
	}
	all, _ := v.living(name)
	for _, c := range all {
		if e.Version != "" && c.isOf(e.Version) {
			continue // it was packed since
		}
		if err := k.endOf(ctx, e, dir, c, version); err != nil {
			return as("put", e.Path, err)
		}
	}
	return nil
}

// endOf declares a file in an archive dead in whose place e was put.
func (k *Backend) endOf(ctx context.Context, e remote.Entry, dir string, c claim, version string) error {
	now, plain, err := k.plainAt(ctx, e.Path)
	if err != nil || !plain || now.Type == remote.Dir {
		return err
	}
	same := c[0].Version() == version
	if !same && now.Version == e.Version {
		if same, err = k.holds(ctx, now, c[0].Version()); err != nil {
			return err
		}
	}
	if !same {
		return nil
	}
	_, err = k.bury(ctx, dir, c)
	return err
}
