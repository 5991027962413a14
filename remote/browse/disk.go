package browse

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// disk keeps indexes in a directory: a file for each archive, with the version of which it
// tells. Nothing in it is precious: what is damaged or of another version is not there, and
// a disk that does not take a file loses it.
type disk struct {
	dir  string // "" if there is none
	most int64
	tree string

	mu sync.Mutex // held while files are made or removed
}

const (
	diskMagic = "meshmount archive index 1\n"
	diskExt   = ".index"
)

func newDisk(opts Options) *disk {
	d := &disk{dir: opts.Dir, most: opts.Disk, tree: opts.Tree}
	if d.dir != "" && os.MkdirAll(d.dir, 0o700) != nil {
		d.dir = ""
	}
	return d
}

// name returns the file for the index of an archive.
func (d *disk) name(path string) string {
	sum := sha256.Sum256([]byte(d.tree + "\x00" + path))
	return filepath.Join(d.dir, hex.EncodeToString(sum[:16])+diskExt)
}

// header is what comes before the contents in a file.
func (d *disk) header(id ident, size int64) []byte {
	var p []byte
	for _, s := range []string{d.tree, id.path, id.version} {
		p = append(binary.AppendUvarint(p, uint64(len(s))), s...)
	}
	return binary.AppendVarint(p, size)
}

// load returns what is kept of a version of an archive, nil if nothing is.
func (d *disk) load(id ident, size int64) *foreign.Contents {
	if d.dir == "" || id.provisional {
		return nil
	}
	name := d.name(id.path)
	p, err := os.ReadFile(name)
	p, ok := bytes.CutPrefix(p, []byte(diskMagic))
	if err != nil || !ok || len(p) < sha256.Size {
		return nil
	}
	sum := sha256.Sum256(p[sha256.Size:])
	if !bytes.Equal(sum[:], p[:sha256.Size]) {
		return nil
	}
	p, ok = bytes.CutPrefix(p[sha256.Size:], d.header(id, size))
	if !ok {
		return nil
	}
	c, err := foreign.Decode(p)
	if err != nil {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // or it is thought to be older than it is
	return c
}

// save keeps an index, instead of what was kept of that archive.
func (d *disk) save(x *index) {
	if d.dir == "" || x.provisional {
		return
	}
	body := append(d.header(x.ident, x.size), x.Encode()...)
	sum := sha256.Sum256(body)
	if int64(len(diskMagic)+len(sum)+len(body)) > d.most {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.write(d.name(x.path), []byte(diskMagic), sum[:], body) == nil {
		d.trim()
	}
}

// write makes a file whole or not at all, as far as this process lives; what a crash
// leaves fails its checksum.
func (d *disk) write(name string, parts ...[]byte) error {
	f, err := os.CreateTemp(d.dir, "new-*"+diskExt)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// trim removes the files that were not used for the longest time, until the rest is within
// the bound. Guarded by mu.
func (d *disk) trim() {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return
	}
	type file struct {
		name string
		size int64
		used time.Time
	}
	var files []file
	sum := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasSuffix(e.Name(), diskExt) {
			continue
		}
		files = append(files, file{filepath.Join(d.dir, e.Name()), info.Size(), info.ModTime()})
		sum += info.Size()
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if sum <= d.most {
			return
		}
		if os.Remove(f.name) == nil {
			sum -= f.size
		}
	}
}
