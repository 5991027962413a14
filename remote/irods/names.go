package irods

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
)

// The longest name, which is that of the file systems below, and the longest path. The
// server has room for 1,088 bytes; measured, it refuses what is longer than about 1,024.
const (
	maxName = 255
	maxPath = 1023
)

// errNotUTF8 is why a name is refused: the catalog cannot hold it (-806000).
var errNotUTF8 = errors.New("the catalog keeps only names in UTF-8")

// full returns the zone's path of an entry.
func (b *Backend) full(rel string) string {
	if rel == "/" {
		return b.opts.Root
	}
	return b.opts.Root + rel
}

// check refuses paths that the zone cannot hold.
func (b *Backend) check(op, rel string) error {
	if err := remote.CheckPath(op, rel); err != nil {
		return err
	}
	_, name := remote.Split(rel)
	switch {
	case isHidden(rel):
		return remote.E(op, rel, remote.Invalid, errHidden)
	case !utf8.ValidString(rel):
		return remote.E(op, rel, remote.Invalid, errNotUTF8)
	case len(name) > maxName:
		return remote.E(op, rel, remote.NameTooLong, errors.New("names have at most 255 bytes"))
	case len(b.full(rel)) > maxPath:
		return remote.E(op, rel, remote.NameTooLong, errors.New("paths in the zone have at most 1,023 bytes"))
	}
	return nil
}

// splitFull cuts a path of the zone into collection and name.
func splitFull(path string) (coll, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 1)], path[i+1:]
}

// zoneOf returns the zone that a path lies in.
func zoneOf(path string) string {
	zone, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return zone
}
