package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/remote"
)

// lastPut is called for the last handle: it puts what is left to put. What the
// program was told to have failed is not tried again.
func (x *file) lastPut(ctx context.Context) error {
	x.mu.Lock()
	err := x.failed
	x.mu.Unlock()
	if err == nil {
		err = x.upload(ctx)
	}
	return err
}

// rescue keeps content that could not be put, because of cause: in the park
// directory or, if that fails, where it is. The kernel is told that the name stands
// for what the server has.
func (x *file) rescue(cause error) error {
	where, err := x.park(cause)
	path, _ := x.where()
	if err != nil {
		x.fs.log.Error("content could neither be put to the server nor parked", "path", path, "error", cause, "park", err)
		where = x.giveUp()
	}
	x.fs.log.Error("content could not be put to the server and is kept on this node", "path", path, "error", cause, "kept", where)
	x.fs.tell(Invalidation{Path: path, Ino: x.ino, Content: true, Entry: true})
	return fmt.Errorf("%s is kept in %s: %w", path, where, errors.Join(cause, err))
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

// describe returns what there is to know of the content. Called with content held.
func (x *file) describe(cause error) parked {
	x.mu.Lock()
	p := parked{Path: x.path, Cause: cause.Error(), Time: x.fs.now(), MTime: x.mtime, Size: x.size, Base: x.base.Version}
	st := x.stage
	x.mu.Unlock()
	holes := st.Missing(0, p.Size)
	if p.Complete = len(holes) == 0; p.Complete {
		return p
	}
	at := int64(0)
	for _, h := range append(holes, writeback.Extent{Off: p.Size, End: p.Size}) {
		if at < h.Off {
			p.Present = append(p.Present, [2]int64{at, h.Off})
		}
		at = h.End
	}
	return p
}

// park moves the staging file to the park directory. It may take long.
func (x *file) park(cause error) (string, error) {
	x.lockContent()
	defer x.content.Unlock()
	if x.stage == nil {
		return "", errors.New("there is no staged content")
	}
	p := x.describe(cause)
	_, name := remote.Split(p.Path)
	dst, err := os.CreateTemp(x.fs.opts.ParkDir, name[:min(len(name), 100)]+".*")
	if err != nil {
		return "", err
	}
	defer dst.Close()
	note := dst.Name() + ".json"
	staged, err := x.stage.Own()
	err = errors.Join(err, x.stage.Sync(), writeNote(note, p))
	if err == nil { // last: what has been moved is not removed again
		err = moveFile(staged, dst, x.isPending())
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(dst.Name()), os.Remove(note))
	}
	x.setClean()
	return dst.Name(), syncDir(filepath.Dir(dst.Name()))
}

func (x *file) setClean() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dirty = false
}

func writeNote(path string, p parked) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// moveFile renames a file over dst, or copies it where that crosses file systems, or
// where the file has to stay.
func moveFile(from string, dst *os.File, stay bool) error {
	err := error(syscall.EXDEV)
	if !stay {
		err = os.Rename(from, dst.Name())
	}
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
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

// giveUp makes sure that a file which could neither be put nor parked does not
// hold up its release: its staging file stays, under a name that the next mount
// does not remove.
func (x *file) giveUp() (kept string) {
	x.lockContent()
	defer x.content.Unlock()
	x.setClean()
	if x.stage == nil {
		return ""
	}
	name, err := x.stage.Own()
	save := os.Rename
	var off int64
	if err != nil { // there is no room for a file of its own: that which it shares with others stays
		name, off = x.stage.Place()
		save = os.Link
	}
	switch {
	case x.isPending(): // the journal keeps it, for what was committed before
		kept = name
	default:
		kept = filepath.Join(x.fs.opts.StageDir, "lost-"+filepath.Base(name))
		if err := save(name, kept); err != nil && !errors.Is(err, os.ErrExist) {
			x.fs.log.Error("content is lost", "path", name, "error", err)
		}
	}
	if off > 0 {
		kept += ", from byte " + strconv.FormatInt(off, 10) + " on"
	}
	return kept
}

// finish puts or rescues a file that is still open when the FS is closed.
func (x *file) finish(ctx context.Context) error {
	err := x.lastPut(ctx)
	if err != nil && x.mustPut() {
		err = x.rescue(err)
	}
	x.fs.mu.Lock()
	x.fs.drop(x)
	x.fs.mu.Unlock()
	x.closeStage()
	return err
}

func (x *file) closeStage() {
	x.lockContent()
	defer x.content.Unlock()
	x.mu.Lock()
	st := x.stage
	x.stage = nil
	x.mu.Unlock()
	if st != nil {
		st.Release()
	}
}
