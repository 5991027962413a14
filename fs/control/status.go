package control

import (
	"context"
	"time"
)

// Changes are what was written and is not on its server yet, for the server. A change has
// a number that is unique among those of one cache directory.
type Changes interface {
	// Status tells what there is, with at most that many items: those that need
	// attention first.
	Status(ctx context.Context, items int) (Status, error)
	// Items calls yield for each change, in ascending order of numbers, until that
	// returns an error, and returns that error.
	Items(ctx context.Context, yield func(Item) error) error
	// Progress tells in short how much there is.
	Progress(ctx context.Context) (Progress, error)
	// Flush returns when nothing at or below path is left, or nothing but what cannot be
	// stored: then there is an error, and left names that.
	Flush(ctx context.Context, path string) (left Leftovers, err error)
	// Retry has a change that has failed tried again at once, RetryAll all of them: it
	// returns how many were parked. The error is NotExist if there is no such change.
	Retry(ctx context.Context, id uint64) error
	RetryAll(ctx context.Context) (count int, err error)
	// Drop gives a change up: its content is lost. The error is NotExist if there is no
	// such change, Locked if it is being carried out.
	Drop(ctx context.Context, id uint64) error
	// Export copies what these changes hold to files below dir, or all parked ones if ids
	// is empty, and calls yield after each. It overwrites nothing, and goes on after an
	// error of one of them. The error is that of yield or ctx.
	Export(ctx context.Context, dir string, ids []uint64, yield func(Exported) error) error
	// Pause holds all uploads, or has them go on.
	Pause(ctx context.Context, hold bool) error
}

// MaxItems is how many items a status has at most.
const MaxItems = 1000

// States of a mount.
const (
	StateMounted  = "mounted"
	StateDraining = "draining" // unmounted, and the process still uploads
	StateEnded    = "ended"    // there is no process
)

// Status is what was written in a mount and is not on its server yet.
type Status struct {
	Mountpoint string `json:"mountpoint"`
	CacheDir   string `json:"cache_dir"`
	PID        int    `json:"pid,omitempty"`
	State      string `json:"state"`
	Write      string `json:"write,omitempty"` // "back", "through"; not told if the process has ended
	Paused     bool   `json:"paused"`
	// Staged is what staged content takes on the local disk, in bytes, and Limit what it
	// may take, 0 without a bound.
	Staged int64 `json:"staged_bytes"`
	Limit  int64 `json:"staging_limit"`
	// Full tells why there is no room for what is written.
	Full string `json:"full,omitempty"`
	// Damage tells what of the journal could not be read.
	Damage string `json:"damage,omitempty"`

	Progress
	Branches []BranchStatus `json:"branches"`
	// Items are the first ones; LeftOut is how many others there are.
	Items   []Item `json:"items"`
	LeftOut int    `json:"items_left_out"`
}

// Progress is how much is not on its server yet.
type Progress struct {
	Pending   int     `json:"pending"` // changes, parked ones not included
	Uploading int     `json:"uploading"`
	Parked    int     `json:"parked"`
	Bytes     int64   `json:"bytes"` // of content in pending changes
	Sent      int64   `json:"sent"`  // of Bytes, by uploads under way
	Rate      float64 `json:"rate"`  // bytes/s
	// Held says why changes wait, one line for each branch that is held.
	Held []string `json:"held,omitempty"`
}

// TimeLeft is how long the pending bytes will take at the present rate, 0 if unknown.
func (p *Progress) TimeLeft() time.Duration {
	if left := p.Bytes - p.Sent; left > 0 && p.Rate >= 1 {
		return time.Duration(float64(left) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	return 0
}

// BranchStatus is Progress of one branch. Bytes and rates are as there.
type BranchStatus struct {
	Name      string  `json:"name"`    // place in the mount, with a slash in front
	Tree      string  `json:"tree"`    // what it is on the server, and as whom
	Mounted   bool    `json:"mounted"` // false: changes of an earlier mount, which had this branch
	Pending   int     `json:"pending"`
	Uploading int     `json:"uploading"`
	Parked    int     `json:"parked"`
	Bytes     int64   `json:"bytes"`
	Sent      int64   `json:"sent"`
	Rate      float64 `json:"rate"`
	Held      string  `json:"held,omitempty"` // why nothing is sent
	// Conflicts are the newest ones; ConflictCount is how many there were in all.
	Conflicts     []Conflict `json:"conflicts,omitempty"`
	ConflictCount int        `json:"conflict_count"`
}

// Conflict is a file that somebody else had changed, too: theirs is at Path, ours at Copy.
// Copy is empty if ours was to remove it, which was not done.
type Conflict struct {
	Path string    `json:"path"`
	Copy string    `json:"copy,omitempty"`
	Time time.Time `json:"time"`
}

// States of a change.
const (
	ItemPending   = "pending"
	ItemUploading = "uploading"
	ItemWaiting   = "waiting" // failed, and will be tried again by itself
	ItemParked    = "parked"  // failed for good, until it is retried
	ItemBlocked   = "blocked" // behind a parked one
)

// Item is a change.
type Item struct {
	ID      uint64    `json:"id"`
	Op      string    `json:"op"`           // "put", "mkdir", "remove", "rename", "symlink", "setattr"
	Path    string    `json:"path"`         // within the mount
	To      string    `json:"to,omitempty"` // new path of a rename, within the mount
	State   string    `json:"state"`
	Size    int64     `json:"size"`           // bytes of content
	Sent    int64     `json:"sent,omitempty"` // of them, so far
	Since   time.Time `json:"since,omitzero"`
	Tries   int       `json:"tries,omitempty"`
	NextTry time.Time `json:"next_try,omitzero"`
	Cause   string    `json:"cause,omitempty"` // why the last try failed
	Kind    string    `json:"kind,omitempty"`  // of the cause, as errors have it
	File    string    `json:"file,omitempty"`  // with the content, on this node
	// Offset is where in File the content begins, in bytes: small contents share a file.
	Offset int64 `json:"offset,omitempty"`
}

// Leftovers are items that are left, the first ones of them, and how many others there are.
type Leftovers struct {
	Items   []Item `json:"items"`
	LeftOut int    `json:"items_left_out"`
}

// MaxLeft is how many items Leftovers in an answer have at most.
const MaxLeft = 100

// Exported is the outcome for one change. File is empty if there is an error.
type Exported struct {
	ID    uint64 `json:"id"`
	Path  string `json:"path,omitempty"` // within the mount
	File  string `json:"file,omitempty"` // the copy
	Error string `json:"error,omitempty"`
}

// retryRequest is the body of a request to retry: one change, or all.
type retryRequest struct {
	ID  uint64 `json:"id,omitempty"`
	All bool   `json:"all,omitempty"`
}

// retryAnswer is how many changes will be tried again.
type retryAnswer struct {
	Count int `json:"count"`
}

// dropRequest is the body of a request to drop. Lose must be true.
type dropRequest struct {
	ID   uint64 `json:"id"`
	Lose bool   `json:"lose"`
}

// exportRequest is the body of a request to export.
type exportRequest struct {
	Dir string   `json:"dir"`
	IDs []uint64 `json:"ids,omitempty"`
}

// line is one of an answer in lines. One field is set, besides Error and Left of the last.
type line struct {
	Item     *Item      `json:"item,omitempty"`
	Progress *Progress  `json:"progress,omitempty"`
	Exported *Exported  `json:"exported,omitempty"`
	End      bool       `json:"end,omitempty"`
	Error    *failure   `json:"error,omitempty"`
	Left     *Leftovers `json:"left,omitempty"`
}
