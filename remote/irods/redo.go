package irods

import (
	"strconv"
	"strings"
)

// What a dead process has left is known by the catalog alone. An object that was being
// written when its writer died has no good replica any more: the server makes the one
// that was open stale, takes its checksum away and sets its time; its size may be that of
// before or that of what is on the storage. If another replica was good before, it is good
// again, and the object is as it was.
//
// So PutOptions.Redo lets an object be written that has no good replica and nobody who
// writes it, if it is the one that the condition is about: it has the number that is in
// the version, or there was nothing before. What it was before it was torn, the catalog
// does not tell: somebody else may have written it after our version, and died himself
// over the next one. His content is gone then as well, so that a Put harms nothing.
// A Patch needs the bytes between its ranges; see patching.

// redo tells whether the object may be what an earlier change of ours has left.
func (u *upload) redo(o *object) bool {
	if _, state := o.best(); !u.opts.Redo || state != torn {
		return false
	}
	return u.opts.Cond.NotExist || versionID(u.opts.Cond.Version) == o.id
}

// versionID returns the object's number in a version, 0 if there is none.
func versionID(version string) int64 {
	id, _, _ := strings.Cut(version, ".")
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// versionSize returns the size in a version, -1 if there is none.
func versionSize(version string) int64 {
	parts := strings.SplitN(version, ".", 4)
	if len(parts) < 4 {
		return -1
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return -1
	}
	return n
}
