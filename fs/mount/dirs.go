package mount

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// openDir is a directory that the kernel has open.
type openDir struct {
	node *node

	mu      sync.Mutex
	stream  *fs.DirStream // guarded by mu
	cursor  cursor        // guarded by mu
	changes uint64        // guarded by mu; of node when the stream was opened
}

func (d *openDir) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream.Close()
}

// start begins to read s, which is the directory as it was after so many changes.
func (d *openDir) start(t *tree, s *fs.DirStream, changes uint64) {
	d.stream, d.changes = s, changes
	d.cursor = cursor{src: &dots{DirStream: s, self: d.node.key.ino, parent: t.parentIno(d.node)}}
}

// OpenDir opens a directory.
func (r *raw) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return r.look(cancel, &in.InHeader, "opendir", "", func(ctx context.Context, n *node, path string) error {
		changes := n.changes.Load()
		s, err := r.fs.OpenDir(ctx, path)
		if err == nil {
			d := &openDir{node: n}
			d.start(r.tree, s, changes)
			out.Fh = r.files.add(d)
		}
		return err
	})
}

// ReadDir returns names.
func (r *raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(cancel, in, func(_ *openDir, e *fs.DirEntry, off uint64, _ bool) bool {
		return out.AddDirEntry(dirent(e, off))
	})
}

// plusLimit is up to how many nodes a listing may add to. About 300 bytes each, they
// stay until the kernel forgets them, which it does when its memory is short and not
// when ours is.
const plusLimit = 100_000

// ReadDirPlus returns names with attributes, which stand for a lookup of each name.
// What may have changed since the listing was made goes without, and so does all
// when very many names are known: the kernel looks up what somebody wants to know.
func (r *raw) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(cancel, in, func(d *openDir, e *fs.DirEntry, off uint64, again bool) bool {
		entry := out.AddDirLookupEntry(dirent(e, off))
		if entry == nil {
			return false
		}
		if again || e.Name == "." || e.Name == ".." || d.node.changes.Load() != d.changes || r.tree.size() >= r.plusLimit {
			return true
		}
		if a, ok := r.fs.StatOpen(e.Attr.Ino); ok {
			e.Attr = a
		}
		r.show(d.node, e.Name, &e.Attr, entry)
		d.cursor.told = off
		return true
	})
}

func dirent(e *fs.DirEntry, off uint64) fuse.DirEntry {
	return fuse.DirEntry{Name: e.Name, Ino: e.Attr.Ino, Mode: typeBits[e.Attr.Type], Off: off}
}

// readDir gives the entries after an offset to add until it has no room.
func (r *raw) readDir(cancel <-chan struct{}, in *fuse.ReadIn, add func(*openDir, *fs.DirEntry, uint64, bool) bool) fuse.Status {
	d := r.files.dir(in.Fh)
	if d == nil {
		return r.status("readdir", "", syscall.EBADF, false)
	}
	ctx := r.patient(cancel, &in.InHeader)
	defer ctx.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := 0, r.seek(ctx, d, in.Offset)
	for err == nil {
		var e fs.DirEntry
		var off uint64
		var again bool
		if e, off, again, err = d.cursor.take(ctx); err == nil {
			if !add(d, &e, off, again) {
				d.cursor.putBack()
				return fuse.OK
			}
			n++
		}
	}
	if n > 0 || errors.Is(err, io.EOF) {
		return fuse.OK // an error comes again with the next request
	}
	return r.status("readdir", r.name(d.node), err, ctx.interrupted.Load())
}

// seek goes to an offset. Back to the start means the directory as it is now, as
// rewinddir(3) says; other offsets are of the same listing.
func (r *raw) seek(ctx context.Context, d *openDir, off uint64) error {
	if off > 0 || d.cursor.base == 0 && len(d.cursor.kept) == 0 {
		return d.cursor.seek(ctx, off)
	}
	h, err := r.tree.hold(claim{d.node, ""})
	if err != nil {
		return err
	}
	defer h.release()
	changes := d.node.changes.Load()
	s, err := r.fs.OpenDir(ctx, h.paths[0])
	if err == nil {
		d.stream.Close()
		d.start(r.tree, s, changes)
	}
	return err
}

// ReleaseDir is sent when nobody has the directory open any more.
func (r *raw) ReleaseDir(in *fuse.ReleaseIn) {
	if d := r.files.remove(in.Fh); d != nil {
		d.close()
	}
}

// FsyncDir makes the changes of names in a directory survive a power failure, where they
// have not reached the server when the calls that made them return. A directory that was
// removed has none.
func (r *raw) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n := r.tree.node(in.NodeId)
	if n == nil {
		return fuse.OK
	}
	path, there := r.tree.where(n)
	if !there {
		return fuse.OK
	}
	return r.status("fsyncdir", path, r.fs.SyncDir(path), false)
}

// dots is a stream that begins with "." and "..".
type dots struct {
	*fs.DirStream
	self, parent uint64
	given        int
}

func (s *dots) Next(ctx context.Context) (fs.DirEntry, error) {
	s.given++
	switch s.given {
	case 1:
		return fs.DirEntry{Name: ".", Attr: fs.Attr{Ino: s.self, Type: remote.Dir}}, nil
	case 2:
		return fs.DirEntry{Name: "..", Attr: fs.Attr{Ino: s.parent, Type: remote.Dir}}, nil
	}
	return s.DirStream.Next(ctx)
}

func (s *dots) Rewind() {
	s.given = 0
	s.DirStream.Rewind()
}
