package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// upload puts the file to the server if it differs. It waits for whoever changes
// the name at the same time.
func (x *file) upload(ctx context.Context) error {
	for {
		path, _ := x.where()
		unlock := x.fs.paths.lock(one(path))
		if now, _ := x.where(); now != path {
			unlock()
			continue
		}
		err := x.put(ctx)
		unlock()
		return err
	}
}

// upShot is what is put: the state at the moment of the upload.
type upShot struct {
	path, rel string
	src       stageSource
	opts      remote.PutOptions
	gen       uint64
	setTime   bool
}

// put does the work of upload. The caller holds the lock on the path.
func (x *file) put(ctx context.Context) error {
	if !x.mustPut() {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	err := x.fill(ctx)
	if err == nil {
		x.content.RLock()
		defer x.content.RUnlock()
		s, must := x.shoot()
		if !must {
			return nil
		}
		err = x.send(ctx, s)
	}
	x.mu.Lock()
	x.failed = err
	x.mu.Unlock()
	return err
}

func (x *file) mustPut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dirty && !x.gone
}

// shoot notes what to put. Called with content held.
func (x *file) shoot() (s upShot, must bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s = upShot{path: x.path, rel: x.b.rel(x.path), src: stageSource{x.stage.f, x.size}, gen: x.gen, setTime: x.setTime}
	s.opts.Cond = remote.Cond{NotExist: !x.exists, Version: x.base.Version, Provisional: x.base.Provisional}
	s.opts.Attrs.Mode = x.mode
	if mtime := x.mtime; x.setTime || x.b.caps().StoresMTime {
		s.opts.Attrs.MTime = &mtime
	}
	return s, x.dirty && !x.gone
}

// send puts s and settles what the server's answer means.
func (x *file) send(ctx context.Context, s upShot) error {
	e, err := x.putOnce(ctx, s)
	switch remote.KindOf(err) {
	case remote.Conflict:
		if _, serr := x.b.Backend.Stat(ctx, s.rel); remote.KindOf(serr) == remote.NotExist {
			// Removed elsewhere: nobody's content is overwritten by ours.
			s.opts.Cond = remote.Cond{NotExist: true}
			e, err = x.putOnce(ctx, s)
		}
	}
	if k := remote.KindOf(err); err != nil && (k == remote.Conflict || k == remote.Exist) {
		return x.conflict(ctx, s, err)
	}
	if err != nil {
		return err
	}
	x.stored(s, e)
	return nil
}

func (x *file) putOnce(ctx context.Context, s upShot) (remote.Entry, error) {
	x.b.meta.changing(s.rel)
	defer x.b.meta.changing(s.rel)
	return x.b.Backend.Put(ctx, s.rel, s.src, s.opts)
}

// stored records that the server has s.
func (x *file) stored(s upShot, e remote.Entry) {
	var keep remote.Attrs
	if s.opts.Attrs.Mode != nil && !(e.ModeKnown && e.Mode == *s.opts.Attrs.Mode) {
		keep.Mode = s.opts.Attrs.Mode
	}
	if s.setTime && !e.MTime.Equal(x.b.truncateTime(*s.opts.Attrs.MTime)) {
		keep.MTime = s.opts.Attrs.MTime
	}
	if keep.Mode != nil || keep.MTime != nil {
		x.b.meta.keep(e, keep)
	}
	x.b.meta.set(e)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.base, x.exists = e, true
	if x.gen == s.gen {
		x.dirty, x.setTime = false, false
		if keep.MTime == nil {
			x.mtime = e.MTime
		}
		if keep.Mode == nil {
			x.mode = nil
		}
	}
	x.fs.pages.swap(x.ino, e.Version)
}

// conflict stores ours beside what somebody else put there, and reports it.
func (x *file) conflict(ctx context.Context, s upShot, cause error) error {
	dir, name := remote.Split(s.rel)
	at := x.fs.now().UTC().Format("20060102T150405.000")
	suffix := ".conflict-" + x.fs.opts.Hostname + "-" + at
	// The copy's name must fit; the end of the name gives way, not the suffix.
	for len(name)+len(suffix) > nameMax && name != "" {
		name = strings.ToValidUTF8(name[:len(name)-1], "")
	}
	beside := s
	beside.rel = remote.Join(dir, name+suffix)
	beside.opts.Cond = remote.Cond{NotExist: true}
	e, err := x.putOnce(ctx, beside)
	if err != nil {
		return fmt.Errorf("%w (and the conflict copy failed: %w)", cause, err)
	}
	x.b.meta.set(e)
	x.b.meta.forget(s.rel, remote.File)
	copyPath := x.b.abs(beside.rel)
	x.fs.log.Warn("conflict: the file was changed on the server since it was opened; our content is stored beside it",
		"path", s.path, "copy", copyPath)
	x.fs.replaced(x, s.path)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.base, x.exists, x.path = e, true, copyPath
	if x.gen == s.gen {
		x.dirty = false
	}
	return fail("put", s.path, remote.Conflict, fmt.Errorf("somebody else changed it; our content is in %s", copyPath))
}

// settle is called for the last handle: it puts what is left to put, and parks what
// cannot be put.
func (x *file) settle(ctx context.Context) error {
	x.mu.Lock()
	err := x.failed
	x.mu.Unlock()
	if err == nil {
		err = x.upload(ctx)
	}
	if err == nil || !x.mustPut() {
		return err
	}
	where, perr := x.park(err)
	path, _ := x.where()
	if perr != nil {
		x.fs.log.Error("content could neither be put to the server nor parked", "path", path, "error", err, "park", perr)
		return errors.Join(err, perr)
	}
	x.fs.log.Error("content could not be put to the server and is kept on this node", "path", path, "error", err, "kept", where)
	return fmt.Errorf("%s is kept in %s: %w", path, where, err)
}

// parked describes content in the park directory.
type parked struct {
	Path     string    `json:"path"`
	Cause    string    `json:"cause"`
	Time     time.Time `json:"time"`
	MTime    time.Time `json:"mtime"`
	Size     int64     `json:"size"`
	Base     string    `json:"base_version,omitempty"`
	Complete bool      `json:"complete"`
	// Present lists the byte ranges [from, to) that are in the file, if not all.
	Present [][2]int64 `json:"present,omitempty"`
}

// park moves the staging file to the park directory.
func (x *file) park(cause error) (string, error) {
	x.content.Lock()
	defer x.content.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.stage
	if st == nil {
		return "", errors.New("there is no staged content")
	}
	_, name := remote.Split(x.path)
	dst, err := os.CreateTemp(x.fs.opts.ParkDir, name[:min(len(name), 100)]+".*")
	if err != nil {
		return "", err
	}
	defer dst.Close()
	p := parked{Path: x.path, Cause: cause.Error(), Time: x.fs.now(), MTime: x.mtime, Size: x.size, Base: x.base.Version,
		Complete: len(st.missing(0, x.size)) == 0}
	if !p.Complete {
		for _, e := range st.have.list {
			p.Present = append(p.Present, [2]int64{e.off, e.end})
		}
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return "", err
	}
	if err := errors.Join(st.f.Sync(), os.WriteFile(dst.Name()+".json", append(text, '\n'), 0o600)); err != nil {
		return "", err
	}
	if err := moveFile(st.f, dst); err != nil {
		return "", err
	}
	x.dirty = false
	return dst.Name(), syncDir(filepath.Dir(dst.Name()))
}

// moveFile renames src over dst, or copies where that crosses file systems.
func moveFile(src, dst *os.File) error {
	err := os.Rename(src.Name(), dst.Name())
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if _, err := src.Seek(0, 0); err != nil {
		return err
	}
	if _, err := dst.ReadFrom(src); err != nil {
		return err
	}
	return dst.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// finish settles a file that is still open when the FS is closed.
func (x *file) finish(ctx context.Context) error {
	err := x.settle(ctx)
	x.fs.mu.Lock()
	x.fs.drop(x)
	x.fs.mu.Unlock()
	x.closeStage()
	return err
}

func (x *file) closeStage() {
	x.content.Lock()
	defer x.content.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stage != nil {
		x.stage.close()
		x.stage = nil
	}
}
