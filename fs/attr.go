package fs

import (
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Attr describes one object of the tree.
type Attr struct {
	Ino                 uint64
	Type                remote.Type
	Mode                uint32 // permission bits 07777
	Nlink               uint32
	Size                int64
	MTime, CTime, ATime time.Time
	UID, GID            uint32
	// TTL is how long the kernel may use the attributes and the name.
	TTL     time.Duration
	Version string // remote version, "" for what was never on a server
}

// mode computes the permission bits of an entry: those that were stored, or the
// default, less what the server does not let this user do.
func (f *FS) mode(b *branch, e remote.Entry) uint32 {
	mode := e.Mode & 0o7777
	if !e.ModeKnown {
		usual, ok := f.usual.Of(e.Type)
		if mode = usual; !ok {
			return 0o777 // of a symbolic link
		}
	}
	if e.Access&remote.AccessKnown != 0 {
		if !e.Access.Can(remote.AccessRead) {
			mode &^= 0o444
		}
		writable := e.Access.Can(remote.AccessWrite)
		if e.Type == remote.Dir {
			writable = e.Access&(remote.AccessCreate|remote.AccessMkdir) != 0
		}
		if !writable {
			mode &^= 0o222
		}
	}
	if b.ReadOnly || b.caps().ReadOnly {
		mode &^= 0o222
	}
	return mode
}

// attr turns an entry of a branch into attributes; ttl is how long they hold.
func (f *FS) attr(b *branch, e remote.Entry, ttl time.Duration) Attr {
	a := Attr{Ino: f.inos.of(b.abs(e.Path)), Type: e.Type, Mode: f.mode(b, e), Nlink: 1, Size: e.Size,
		MTime: e.MTime, UID: f.opts.UID, GID: f.opts.GID, TTL: ttl, Version: e.Version}
	switch e.Type {
	case remote.Dir:
		a.Nlink, a.Size = 2, 4096
	case remote.Symlink:
		a.Size = int64(len(e.Target))
	}
	if a.MTime.IsZero() {
		a.MTime = f.start
	}
	a.CTime, a.ATime = a.MTime, a.MTime
	return a
}

// synthetic returns the attributes of a directory above the branches.
func (f *FS) synthetic(path string) Attr {
	return Attr{Ino: f.inos.of(path), Type: remote.Dir, Mode: 0o555, Nlink: 2, Size: 4096, MTime: f.start,
		CTime: f.start, ATime: f.start, UID: f.opts.UID, GID: f.opts.GID, TTL: time.Hour}
}
