package remote

import (
	"context"
	"time"
)

// Xattrer is the ability to keep extended attributes with the entries of the tree.
// They stay with a file when it is renamed and when Put replaces its content, and
// changing one changes neither the file's Version nor its bytes.
type Xattrer interface {
	// XattrPrefix begins the name of every attribute of this backend, for example
	// "user.irods.". It is never empty and costs no request.
	XattrPrefix() string

	// Xattrs returns all attributes of the entry, by their full names. The map and
	// the values are the caller's. Errors: NotExist.
	Xattrs(ctx context.Context, path string) (map[string][]byte, error)

	// SetXattr gives the attribute that value, which may be empty. It does not keep
	// value. Errors: NotExist if there is no such entry; Exist and NoXattr as mode
	// wants; Invalid if the name has not the prefix, or nothing after it, or the
	// server cannot keep this name or value byte for byte.
	SetXattr(ctx context.Context, path, name string, value []byte, mode XattrMode) error

	// RemoveXattr removes the attribute. Errors: NotExist if there is no such entry,
	// NoXattr if it has no such attribute (also if the name has not the prefix).
	RemoveXattr(ctx context.Context, path, name string) error
}

// XattrMode tells what SetXattr wants of the attribute before.
type XattrMode uint8

// The modes of SetXattr.
const (
	XattrAny     XattrMode = iota // set it, whether it is there or not
	XattrCreate                   // it must not be there: Exist
	XattrReplace                  // it must be there: NoXattr
)

// Replicator is the ability to tell where the copies of a file are.
type Replicator interface {
	// Replicas returns the copies of the file, by their numbers, never none.
	// Errors: NotExist, IsDir.
	Replicas(ctx context.Context, path string) ([]Replica, error)
}

// Replica is one copy of a file. Fields that the server does not show are zero.
type Replica struct {
	Number   int          // the server's, unique within the file
	Resource string       // name of the storage; "root;child" if it is within others
	Host     string       // where the storage is
	State    ReplicaState // whether its bytes are the file's
	Size     int64        // bytes, -1 if unknown
	MTime    time.Time
	Checksum Checksum
}

// ReplicaState tells whether a replica can be read.
type ReplicaState string

// The states of replicas.
const (
	ReplicaGood         ReplicaState = "good"         // holds the file's content
	ReplicaStale        ReplicaState = "stale"        // holds older content or a torn write
	ReplicaIntermediate ReplicaState = "intermediate" // is being written
	ReplicaLocked       ReplicaState = "locked"       // closed while another is written
)

// TreeRemover is the ability to delete a directory with all that is below it.
type TreeRemover interface {
	// RemoveTree deletes the directory and everything below it, in as few requests
	// as the server allows, and calls Progress as it goes on. Symbolic links are
	// deleted, not followed. It is not atomic: after an error that is Unsure, part of
	// the tree may be gone, and what others add meanwhile may be deleted or make it
	// fail with NotEmpty. Errors: NotExist, NotDir if it is
	// anything else, Invalid for "/".
	RemoveTree(ctx context.Context, path string) error
}

// Tracker is the ability to tell what has changed in a tree since a moment, in a request
// or two whatever its size.
type Tracker interface {
	// Changed tells in which directories at or below dir something has changed since
	// the call that returned mark. With the mark "" it only takes a mark. A change that
	// was complete before a call begins is told by that call, unless its mark is from
	// after the change; one change may be told more than once, and a directory in which
	// nothing has changed may be told. Errors: NotExist if dir is gone.
	Changed(ctx context.Context, dir, mark string) (Changes, error)
}

// Changes is the answer of a Tracker.
type Changes struct {
	// Dirs are the directories whose names or whose children's attributes may be
	// others now, in no order. A directory that is gone is told by its parent.
	Dirs []string
	// All tells that there is more than Dirs: nothing that is known of the tree can be
	// relied on. So it is if too much has changed, or if mark is of no use any more.
	All bool
	// Mark is for the next call. It is text without a meaning, good over restarts of
	// the program.
	Mark string
}
