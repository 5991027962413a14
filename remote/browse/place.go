package browse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// Suffix makes the name of a view of the name of an archive.
const Suffix = ".d"

const maxElement = 255 // bytes, NAME_MAX

// archiveName returns the name of the archive of which a name would be the view, "" if of
// none.
func archiveName(name string) string {
	of, ok := strings.CutSuffix(name, Suffix)
	if !ok || len(of) <= len(".tar") || len(name) > maxElement || !isTar(of) && !isZip(of) {
		return ""
	}
	return of
}

func isTar(name string) bool { return hasExt(name, ".tar") }
func isZip(name string) bool { return hasExt(name, ".zip") }

func hasExt(name, ext string) bool {
	return len(name) > len(ext) && strings.EqualFold(name[len(name)-len(ext):], ext)
}

// isArchive tells whether an entry has a view, if nothing else has its name.
func isArchive(e remote.Entry) bool {
	_, name := remote.Split(e.Path)
	return e.Type == remote.File && e.Version != "" && archiveName(name+Suffix) != "" && len(e.Path+Suffix) <= remote.MaxPath
}

// archiveOf returns the path of the archive of a view.
func archiveOf(root string) string { return strings.TrimSuffix(root, Suffix) }

// viewsIn returns the paths at and above path that can be views by their names, topmost
// first.
func viewsIn(path string) (roots []string) {
	for end := 1; end < len(path); end++ {
		from := end
		for end < len(path) && path[end] != '/' {
			end++
		}
		if archiveName(path[from:end]) != "" {
			roots = append(roots, path[:end])
		}
	}
	return roots
}

// view is a place in the view of an archive.
type view struct {
	archive remote.Entry
	root    string // path of the view
	rel     string // the name in the archive, "" for the view itself
}

// find returns where path is in a view, nil if it is in none: then it is what the server
// says it is.
func (b *Backend) find(ctx context.Context, path string) (*view, error) {
	for _, root := range viewsIn(path) {
		v, real, err := b.look(ctx, root)
		if err != nil || !real && v == nil {
			return nil, err
		}
		if v != nil {
			v.rel = strings.TrimPrefix(path[len(root):], "/")
			return v, nil
		}
	}
	return nil, nil
}

// look finds out what is at a path that can be a view's: something real, a view, or
// neither. It asks for both at once.
func (b *Backend) look(ctx context.Context, root string) (v *view, real bool, err error) {
	var e remote.Entry
	var archiveErr error
	var asking sync.WaitGroup
	asking.Go(func() { e, archiveErr = b.inner.Stat(ctx, archiveOf(root)) })
	_, rootErr := b.inner.Stat(ctx, root)
	asking.Wait()
	switch {
	case rootErr == nil:
		return nil, true, nil
	case !absent(rootErr):
		return nil, false, rootErr
	case absent(archiveErr) || archiveErr == nil && !isArchive(e):
		return nil, false, nil
	case archiveErr != nil:
		return nil, false, archiveErr
	}
	return &view{archive: e, root: root}, false, nil
}

func absent(err error) bool {
	return errors.Is(err, remote.NotExist) || errors.Is(err, remote.NotDir)
}

// maxLooks is how often an archive that changes all the time is looked at.
const maxLooks = 4

// inView calls do if path is in a view, again if the archive has changed meanwhile.
func (b *Backend) inView(ctx context.Context, path string, do func(*view) error) (handled bool, err error) {
	for range maxLooks {
		v, err := b.find(ctx, path)
		if v == nil {
			return err != nil, err
		}
		if err = do(v); !errors.Is(err, remote.Changed) {
			return true, err
		}
	}
	return true, &remote.Error{Op: "read", Path: path, Kind: remote.Unavailable, Err: errRestless}
}

var errRestless = errors.New("the archive keeps changing")

// Modes of what is in views.
const (
	dirMode  = 0o555
	fileMode = 0o444
	execMode = 0o111
)

// dir returns the entry of a directory of the view; rel is its name in the archive.
func (v *view) dir(rel string) remote.Entry {
	a := &v.archive
	e := remote.Entry{
		Path: v.root, Type: remote.Dir, MTime: a.MTime, Version: versionPrefix + a.Version, Provisional: a.Provisional,
		Mode: dirMode, ModeKnown: true, Access: remote.AccessKnown | a.Access&remote.AccessRead,
	}
	if a.Access&remote.AccessKnown == 0 {
		e.Access |= remote.AccessRead
	}
	if rel != "" {
		e.Path += "/" + rel
	}
	if !a.Provisional { // another archive is another directory
		sum := sha256.Sum256([]byte(a.Path + "\x00" + a.ID + "\x00" + a.Version + "\x00" + rel))
		e.ID = "view-" + hex.EncodeToString(sum[:16])
	}
	return e
}

// entry returns the entry of an item of the archive.
func (v *view) entry(item *foreign.Item) remote.Entry {
	e := v.dir(item.Path)
	if item.MTime != 0 {
		e.MTime = time.Unix(0, item.MTime)
	}
	switch e.Type = item.Type; item.Type {
	case remote.File:
		e.ID, e.Size, e.Mode = "", item.Size, fileMode|item.Mode&execMode
		e.Version = memberVersion(v.root, item, v.archive.Version)
	case remote.Symlink:
		e.ID, e.Version, e.Target, e.ModeKnown, e.Mode = "", "", item.Target, false, 0
		e.Provisional = false
	}
	return e
}

// Versions of members are
//
//	archive-member:ROOT:AT-SIZE-CRC:VERSION
//
// with the length of the view's path, the member's place, size and checksum in hexadecimal,
// and the version of the archive.
const versionPrefix = "archive-member:"

// stampOf tells a member from others in the same archive.
func stampOf(item *foreign.Item) string {
	return strconv.FormatInt(item.At, 16) + "-" + strconv.FormatInt(item.Size, 16) + "-" + strconv.FormatUint(uint64(item.CRC), 16)
}

func memberVersion(root string, item *foreign.Item, version string) string {
	return versionPrefix + strconv.Itoa(len(root)) + ":" + stampOf(item) + ":" + version
}

// pinned is what the version of a member says.
type pinned struct {
	root    string // path of the view
	stamp   string
	version string // of the archive
}

// parseVersion takes apart the version of the member at path. ours is false if it is that
// of something else; root is "" if it cannot be that of what is at path.
func parseVersion(path, version string) (p pinned, ours bool) {
	rest, ours := strings.CutPrefix(version, versionPrefix)
	length, rest, _ := strings.Cut(rest, ":")
	p.stamp, p.version, _ = strings.Cut(rest, ":")
	for _, root := range viewsIn(path) {
		if strconv.Itoa(len(root)) == length && p.version != "" {
			p.root = root
		}
	}
	return p, ours
}
