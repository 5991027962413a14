package remote

import (
	"context"
	"io"
	"time"
)

// Backend is one remote tree. See the package documentation for paths, versions,
// errors, cancellation and concurrency.
type Backend interface {
	// Caps tells what this backend can promise. It costs no request. A fact may
	// only become weaker while the backend lives (a server found to refuse ranges),
	// never stronger.
	Caps() Caps

	// Stat returns the entry at path: NotExist if there is none. If an element on
	// the way is a file, the error is NotExist or NotDir.
	Stat(ctx context.Context, path string) (Entry, error)

	// List calls yield for each child of the directory, once each, in no order, as
	// the entries arrive: memory use does not grow with the directory. An error
	// from yield ends the listing and is returned as it is. A listing that the
	// server cut short is an error, never a shorter listing. Hostile or unusable
	// names are left out and counted in Stats of the adapter, not fatal.
	// Errors: NotExist, NotDir.
	List(ctx context.Context, dir string, yield func(Entry) error) error

	// ReadAt fills p from offset off of the file ref.Path. It returns len(p) and
	// nil, or the bytes up to the end of the file and io.EOF (which is never
	// wrapped). If ref.Version is not empty, the bytes are of that version or the
	// error is Changed (NotExist if the file is gone). Fewer bytes than asked
	// before the end of file is Unavailable or Corrupt, never a short success.
	ReadAt(ctx context.Context, ref Ref, p []byte, off int64) (int, error)

	// Put stores src as the whole content of the file at path and returns its new
	// entry. With Caps.AtomicPut, no reader and no crash ever sees anything but
	// the old content or the new. The parent must exist (NotExist otherwise), the
	// path must not be a directory (IsDir) and opts.Cond must hold (Exist or
	// Conflict otherwise). Attributes that the server cannot keep are dropped and
	// the entry shows what was kept.
	Put(ctx context.Context, path string, src Source, opts PutOptions) (Entry, error)

	// Mkdir makes one directory and returns its entry, which need not show more than path and
	// type: MTime, Version, ID and Access may be missing. Errors: Exist if there is
	// anything at path, NotExist if the parent is missing, NotDir if it is a file.
	Mkdir(ctx context.Context, path string) (Entry, error)

	// Remove deletes a file or symbolic link (opts.Type File or Symlink) or an
	// empty directory (Dir). Errors: NotExist, IsDir, NotDir, NotEmpty, Conflict.
	// It never deletes what is below a directory.
	Remove(ctx context.Context, path string, opts RemoveOptions) error

	// Rename moves from to to. An existing file at to is replaced by a file, an
	// empty directory by a directory, unless opts.NoReplace (Exist). Errors as
	// rename(2): NotExist, IsDir, NotDir, NotEmpty, Exist, Invalid (a directory
	// into itself).
	Rename(ctx context.Context, from, to string, opts RenameOptions) error

	// Close releases connections and waits for the backend's goroutines. Calls in
	// flight fail; later calls fail with BadHandle.
	Close() error
}

// Type is what an entry is.
type Type uint8

// The types of entries.
const (
	File Type = iota + 1
	Dir
	Symlink
)

// String returns "file", "directory" or "symlink".
func (t Type) String() string {
	switch t {
	case File:
		return "file"
	case Dir:
		return "directory"
	case Symlink:
		return "symlink"
	}
	return "unknown"
}

// Entry describes one file, directory or symbolic link as the server showed it.
type Entry struct {
	Path  string
	Type  Type
	Size  int64     // bytes; 0 for directories
	MTime time.Time // zero if unknown
	// Version validates the bytes; empty if the server offers nothing.
	Version string
	// Provisional marks a Version that may still cover a later change.
	Provisional bool
	// ID identifies the object over renames; empty if the server has no such thing.
	ID string
	// Mode holds the permission bits (07777) that were stored with the entry, and
	// is meaningful only if ModeKnown.
	Mode      uint32
	ModeKnown bool
	// Access is what the server lets this user do; see AccessKnown.
	Access Access
	// Target is the text of a symbolic link.
	Target string
	// Checksum is the server's own checksum of the bytes, if it shows one.
	Checksum Checksum
}

// Checksum is a digest in lower-case hex with the algorithm's name in lower case
// ("sha256", "sha1", "md5", "adler32"). The zero value means none.
type Checksum struct{ Algorithm, Hex string }

// Access is a set of permissions granted by the server.
type Access uint16

// Permissions. Without AccessKnown the server said nothing and all are assumed.
const (
	AccessKnown  Access = 1 << iota
	AccessRead          // read a file, list a directory
	AccessWrite         // replace the content of a file
	AccessCreate        // make files in a directory
	AccessMkdir         // make directories in a directory
	AccessDelete        // delete the entry
	AccessRename        // rename or move the entry
)

// Can tells whether all permissions of want are granted or nothing is known.
func (a Access) Can(want Access) bool { return a&AccessKnown == 0 || a&want == want }

// Ref names the bytes of one version of a file.
type Ref struct {
	Path    string
	Version string // empty: whatever is there
	Size    int64  // size of that version, -1 if unknown; lets an adapter check answers
}

// Source is content to store. It knows its length and can be read more than once,
// so that a failed upload can be tried again.
type Source interface {
	Size() int64
	// Open returns a reader from offset 0 over Size bytes. The caller closes it.
	// At most one reader is open at a time. It may be an io.Seeker as well: see Skip.
	Open() (io.ReadCloser, error)
}

// Cond is a precondition on the target of a change. The zero value is none.
// How strictly it holds against others' simultaneous changes is told by Caps.
type Cond struct {
	// NotExist: there must be nothing at the path (Exist otherwise).
	NotExist bool
	// Version, if not empty: the path must be a file of this version (Conflict
	// otherwise, also if it is gone).
	Version string
	// Provisional repeats Entry.Provisional for Version.
	Provisional bool
}

// Attrs are attributes to set; nil fields stay as they are.
type Attrs struct {
	MTime *time.Time
	Mode  *uint32 // permission bits 07777
	// Usual, if not nil, are the modes that the caller takes entries for that have none: Mode
	// need not be stored where nothing is and it is that one. A mode that is stored is
	// replaced as without it.
	Usual *Modes
	// Made: the path is a directory that the caller has just made, and of which it has set
	// nothing yet. It need not be looked at before its attributes are set.
	Made bool
}

// Modes are the permission bits of entries for which none are stored.
type Modes struct{ File, Dir uint32 }

// ModesOf returns what umask leaves of 0666 and 0777.
func ModesOf(umask uint32) *Modes { return &Modes{File: 0o666 &^ umask, Dir: 0o777 &^ umask} }

// Of returns the bits for a type, false if it has none of its own.
func (m *Modes) Of(t Type) (bits uint32, ok bool) {
	switch {
	case m == nil:
	case t == File:
		return m.File, true
	case t == Dir:
		return m.Dir, true
	}
	return 0, false
}

// Spares tells whether Mode need not be stored with an entry of that type that has none.
func (a Attrs) Spares(t Type) bool {
	bits, ok := a.Usual.Of(t)
	return ok && a.Mode != nil && *a.Mode&0o7777 == bits
}

// PutOptions qualify Put.
type PutOptions struct {
	Cond  Cond
	Attrs Attrs
	// Loose: Attrs.MTime is only when the content was written. It is kept if that costs no
	// request of its own, and dropped otherwise.
	Loose bool
	// Resume, if not empty, names this content at this path: a later Put with the same
	// name, after an error or in another process, may go on where the server has parts of
	// it. It is at most 64 letters, digits and "-", and no other content of this tree has
	// the same. An adapter that cannot resume ignores it.
	Resume string
	// Tag, if not empty, is at most 32 letters and digits. What is on the server before the
	// upload is complete bears it in its name, if it is not named for Resume, so that Sweep
	// finds what a process leaves that dies. An adapter that is no Sweeper ignores it.
	Tag string
	// Redo tells that an earlier Put or Patch of ours with the same Cond may have been cut
	// off: a file that it has left torn may be replaced although it is not of
	// Cond.Version any more. A whole file of another version is still a Conflict.
	Redo bool
}

// RemoveOptions qualify Remove.
type RemoveOptions struct {
	Type Type
	// Version, if not empty, must still be the entry's (Conflict otherwise),
	// as far as the server can check it.
	Version string
}

// RenameOptions qualify Rename.
type RenameOptions struct {
	NoReplace bool
}

// Guard grades how a precondition is kept.
type Guard uint8

// Grades of Guard, weakest first.
const (
	GuardNone   Guard = iota // not checked at all
	GuardLook                // looked at before the change: a short race remains
	GuardAtomic              // checked by the server together with the change
)

// String returns "none", "look" or "atomic".
func (g Guard) String() string { return [...]string{"none", "look", "atomic"}[g] }

// Caps are facts about a backend.
type Caps struct {
	Dialect string // what the server was found to be, for people
	// ReadOnly: no change will be accepted.
	ReadOnly bool
	// AtomicPut: a Put that dies half way leaves the old content or none, and no
	// reader sees a mixture.
	AtomicPut bool
	// Overwrite and Create grade Cond.Version and Cond.NotExist of Put.
	Overwrite, Create Guard
	// RemoveGuard grades RemoveOptions.Version, and the promise that a directory
	// which gets its first child during Remove is not deleted.
	RemoveGuard Guard
	// Ranges: a part of a file costs about a part of the time. If false, ReadAt
	// works but reads from the start: prefer Opener.
	Ranges bool
	// PropagatesVersion: a directory's Version changes with anything below it.
	PropagatesVersion bool
	// StoresMTime, StoresMode: Attrs are kept by the server.
	StoresMTime, StoresMode bool
	// StoresSymlinks: Symlinker makes links, as far as is known before it has been tried. If
	// false, it is Unsupported.
	StoresSymlinks bool
	// TimeGranularity of MTime, 0 if exact.
	TimeGranularity time.Duration
	// MaxName is the longest name in bytes, 0 if unknown.
	MaxName int
}

// AttrSetter is the ability to change attributes of what is there.
type AttrSetter interface {
	// SetAttr sets what is not nil and returns the entry as it then is. What the
	// server cannot keep is dropped; the returned entry shows what was kept. An
	// entry whose version changes by this returns with the new one.
	SetAttr(ctx context.Context, path string, a Attrs) (Entry, error)
}

// Symlinker is the ability to keep symbolic links.
type Symlinker interface {
	// Symlink makes a symbolic link at path. Errors as Put with Cond.NotExist.
	Symlink(ctx context.Context, path, target string) (Entry, error)
}

// Opener is the ability to stream a whole file.
type Opener interface {
	// Open streams the file from offset 0; io.EOF comes only after the last byte,
	// anything missing is an error. If ref.Version is set, the bytes are of that
	// version or the error (of Open or of a Read) is Changed.
	Open(ctx context.Context, ref Ref) (io.ReadCloser, error)
}

// Usager is the ability to tell space used and left.
type Usager interface {
	Usage(ctx context.Context) (Usage, error)
}

// Usage is in bytes; -1 means unknown or unlimited.
type Usage struct{ Used, Available int64 }

// Locator is the ability to name an entry for people and other programs.
type Locator interface {
	// URL returns the entry's address, without credentials. It costs no request.
	URL(path string) string
}
