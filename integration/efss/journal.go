package efss

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"
)

// record is one line of the catalog's log.
type record struct {
	Op string `json:"op,omitempty"` // "" sets a node, or one of the op constants

	ID       int64      `json:"id,omitempty"`
	Parent   int64      `json:"p,omitempty"` // 0: the root of User
	User     string     `json:"u,omitempty"`
	Name     string     `json:"n,omitempty"`
	RawName  []byte     `json:"rn,omitempty"` // for names that are not UTF-8
	Dir      bool       `json:"d,omitempty"`
	Size     int64      `json:"z,omitempty"` // files only
	MTime    int64      `json:"t,omitempty"` // Unix nanoseconds
	Created  int64      `json:"c,omitempty"`
	ETag     string     `json:"e,omitempty"`
	Uploaded int64      `json:"up,omitempty"`
	Sum      string     `json:"s,omitempty"`
	Props    []deadProp `json:"x,omitempty"`
	ReadOnly bool       `json:"ro,omitempty"`
	Puts     int        `json:"pu,omitempty"`

	Text string `json:"text,omitempty"` // of opInstance and opSecret
}

// The values of record.Op that are not a node.
const (
	opRemove   = "rm"       // ID and all below it are gone
	opInstance = "instance" // Text is the instance's id; ID the highest id given so far
	opSecret   = "secret"   // Text is the hash of an app password of User
	opRevoke   = "revoke"   // and that one is no longer valid
)

func (n *node) record(user string) record {
	r := record{
		ID: n.ID, Dir: n.Dir, MTime: n.MTime.UnixNano(), Created: n.Created.UnixNano(), ETag: n.ETag,
		Uploaded: n.Uploaded, Sum: n.Sum, Props: n.Props, ReadOnly: n.ReadOnly, Puts: n.Puts,
	}
	if !n.Dir {
		r.Size = n.Size
	}
	if n.parent == nil {
		r.User = user
		return r
	}
	r.Parent = n.parent.ID
	if utf8.ValidString(n.name) {
		r.Name = n.name
	} else {
		r.RawName = []byte(n.name)
	}
	return r
}

func (r *record) attrs() attrs {
	return attrs{
		ID: r.ID, Dir: r.Dir, Size: r.Size, MTime: time.Unix(0, r.MTime), Created: time.Unix(0, r.Created),
		ETag: r.ETag, Uploaded: r.Uploaded, Sum: r.Sum, Props: r.Props, ReadOnly: r.ReadOnly, Puts: r.Puts,
	}
}

func (r *record) name() string {
	if r.RawName != nil {
		return string(r.RawName)
	}
	return r.Name
}

// journal is the catalog's log. Its methods are called with store.mu held. The
// first error sticks and comes back from close; the catalog is then settled against
// the disk at the next start.
type journal struct {
	path string
	file *os.File
	err  error
	buf  bytes.Buffer
	enc  *json.Encoder
}

// readJournal calls apply for each whole record of the log. A last line that was
// cut short is left out.
func readJournal(path string, apply func(*record)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReaderSize(f, 1<<20)
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s, line %d: %w", path, line, err)
		}
		apply(&r)
	}
}

// writeJournal replaces the log by what emit sends and opens it for appending.
func writeJournal(path string, emit func(send func(record))) (*journal, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "catalog-*.tmp")
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(tmp, 1<<20)
	enc := json.NewEncoder(out)
	var failed error
	emit(func(r record) { failed = errors.Join(failed, enc.Encode(r)) })
	err = errors.Join(failed, out.Flush(), tmp.Sync())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name())
		return nil, err
	}
	j := &journal{path: path, file: tmp}
	j.enc = json.NewEncoder(&j.buf)
	return j, nil
}

// add appends records in one write, so that a crash keeps all or a prefix of them.
func (j *journal) add(records ...record) {
	if j.err != nil {
		return
	}
	j.buf.Reset()
	for i := range records {
		j.err = errors.Join(j.err, j.enc.Encode(&records[i]))
	}
	if j.err == nil {
		_, j.err = j.file.Write(j.buf.Bytes())
	}
}

func (j *journal) close() error {
	return errors.Join(j.err, j.file.Sync(), j.file.Close())
}
