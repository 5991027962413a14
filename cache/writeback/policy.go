package writeback

import (
	"io"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Policy is how a branch is written.
type Policy struct {
	Name string // of the branch in the mount, for people
	// Tree names the remote tree: the same for all mounts that see the same files.
	Tree string
	// Workers is how many uploads at most are under way, 0 for 8.
	Workers int
	// Calls is how many changes without content may be under way besides (mkdir, attributes,
	// removals): they wait for answers, and hardly ever for bandwidth. More of them take the places of
	// uploads; with 0 all do.
	Calls int
	// Usual are the permission bits of what has no stored ones, for the programs of this mount;
	// nil for 0644 and 0755. They are not stored where nothing else is.
	Usual *remote.Modes
	// Delay is how long a closed file waits for being written again; a tenth of it if it is of
	// a full batch (Batch).
	Delay time.Duration
	// Early is from which size on a new file is sent while it is written, 0 for never.
	Early int64
	// Loose: times that are only those of writing (Commit.Loose) are not worth requests of
	// their own. Without it they are stored as those that were set.
	Loose bool
	// Batch says which new files leave together.
	Batch Batching
	// Prune says how directories go with all that is in them.
	Prune Pruning
	// Prime, if not nil, is given the content of what was stored.
	Prime func(ref remote.Ref, r io.ReaderAt, size int64) error
}
