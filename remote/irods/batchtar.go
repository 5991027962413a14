package irods

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// guard is a file of an archive that shows that the server has unpacked what is before it.
type guard struct {
	path string // in the zone
	data []byte
}

const (
	// guardEvery is after how many files there is a guard.
	guardEvery = 200
	// guardSize is that of a block of usual storage.
	guardSize = 4096
	// tarBlock is the unit of an archive.
	tarBlock = 512
)

// tarball is the archive of a batch as a source: only its headers are in memory.
type tarball struct {
	parts  []tarPart
	size   int64
	failed int // the part whose source has failed, -1: none
	err    error
}

// tarPart is a header, what it is about, and what fills the last block.
type tarPart struct {
	head  []byte
	item  int // of the batch; -1: data
	src   remote.Source
	data  []byte
	bytes int64 // of src or data
}

// archive makes the archive of what is in the batch, with new guards. It is in GNU's
// format, which has names as they are. It begins with a directory, whose name no reader
// takes for the mark of another format.
func (t *batch) archive() (*tarball, error) {
	a := &tarball{failed: -1}
	t.guards = nil
	base := strings.TrimPrefix(strings.TrimPrefix(t.hidden, t.root), "/")
	err := a.add(&tar.Header{Typeflag: tar.TypeDir, Name: base + "/", Mode: 0o755}, tarPart{item: -1})
	for n, i := range t.in {
		it := t.items[i]
		name := strings.TrimPrefix(strings.TrimPrefix(it.Path, t.root), "/")
		if err == nil {
			err = a.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: vaultMode(it.Attrs), Size: it.Source.Size()},
				tarPart{item: i, src: it.Source, bytes: it.Source.Size()})
		}
		if last := n == len(t.in)-1; err == nil && (last || n%guardEvery == guardEvery-1) {
			err = t.guard(a, base)
		}
	}
	a.parts = append(a.parts, tarPart{head: make([]byte, 2*tarBlock), item: -1})
	a.size += 2 * tarBlock
	return a, err
}

// guard adds a guard.
func (t *batch) guard(a *tarball, base string) error {
	name := fmt.Sprintf("guard-%d", len(t.guards))
	raw := make([]byte, guardSize/2)
	if _, err := rand.Read(raw); err != nil {
		return err
	}
	g := guard{path: t.b.full(remote.Join(t.hidden, name)), data: []byte(hex.EncodeToString(raw))}
	t.guards = append(t.guards, g)
	return a.add(&tar.Header{Typeflag: tar.TypeReg, Name: base + "/" + name, Mode: 0o600, Size: guardSize},
		tarPart{item: -1, data: g.data, bytes: guardSize})
}

// vaultMode is the mode of a file in the vault, from which the catalog has its own. The
// server must be able to open it.
func vaultMode(a remote.Attrs) int64 {
	mode := uint32(0o644)
	if a.Mode != nil {
		mode = *a.Mode
	}
	return int64(mode&0o777 | 0o600)
}

// add appends a part behind its header.
func (a *tarball) add(h *tar.Header, p tarPart) error {
	h.Format = tar.FormatGNU
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(h); err != nil {
		return err
	}
	p.head = head.Bytes()
	a.parts = append(a.parts, p)
	a.size += int64(len(p.head)) + p.bytes + p.padding()
	return nil
}

func (p *tarPart) padding() int64 { return -p.bytes & (tarBlock - 1) }

// Size implements remote.Source.
func (a *tarball) Size() int64 { return a.size }

// Open implements remote.Source.
func (a *tarball) Open() (io.ReadCloser, error) {
	a.failed, a.err = -1, nil
	return &tarReader{a: a}, nil
}

// tarReader reads an archive from its beginning to its end.
type tarReader struct {
	a    *tarball
	next int
	from []io.Reader   // what is left of the present part
	src  io.ReadCloser // of the present part
}

// Read implements io.Reader.
func (r *tarReader) Read(p []byte) (int, error) {
	for {
		for len(r.from) > 0 {
			n, err := r.from[0].Read(p)
			if err == io.EOF {
				r.from, err = r.from[1:], nil
			}
			if n > 0 || err != nil {
				return n, err
			}
		}
		if err := r.turn(); err != nil {
			return 0, err
		}
	}
}

// turn goes on to the next part.
func (r *tarReader) turn() error {
	if err := r.Close(); err != nil {
		return err
	}
	if r.next == len(r.a.parts) {
		return io.EOF
	}
	part := &r.a.parts[r.next]
	r.next++
	body := io.Reader(bytes.NewReader(part.data))
	if part.src != nil {
		src, err := part.src.Open()
		if err != nil {
			return r.fail(err)
		}
		r.src, body = src, &exactReader{r: r, left: part.bytes}
	}
	r.from = []io.Reader{bytes.NewReader(part.head), body, bytes.NewReader(make([]byte, part.padding()))}
	return nil
}

// fail notes that the source of the present part has failed.
func (r *tarReader) fail(err error) error {
	r.a.failed, r.a.err = r.a.parts[r.next-1].item, err
	return err
}

// Close implements io.Closer.
func (r *tarReader) Close() error {
	src := r.src
	r.src, r.from = nil, nil
	if src == nil {
		return nil
	}
	if err := src.Close(); err != nil {
		return r.fail(err)
	}
	return nil
}

// exactReader reads as many bytes of the present source as there should be.
type exactReader struct {
	r    *tarReader
	left int64
}

// Read implements io.Reader.
func (x *exactReader) Read(p []byte) (int, error) {
	if x.left == 0 {
		return 0, io.EOF
	}
	n, err := x.r.src.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	switch {
	case err == io.EOF && x.left > 0:
		return n, x.r.fail(fmt.Errorf("the source ends %d bytes before its end: %w", x.left, io.ErrUnexpectedEOF))
	case err == io.EOF:
		return n, nil
	case err != nil:
		return n, x.r.fail(err)
	}
	return n, nil
}

// mostTars is how many sources may fail before the batch is given up.
const mostTars = 3

// upload stores the archive, and proves that the server has it as it is. A file whose
// source fails is left out.
func (t *batch) upload(ctx context.Context) error {
	for n := range mostTars {
		a, err := t.archive()
		if err != nil {
			t.forgo(err)
			return nil
		}
		e, err := t.send(ctx, fmt.Sprintf("batch-%d.tar", n), a)
		switch {
		case err == nil:
			t.after = idOf(e)
			return nil
		case a.failed >= 0:
			t.fault(a.failed, remote.E(opBatch, t.items[a.failed].Path, remote.Other, a.err))
			if len(t.in) == 0 {
				return nil
			}
		case remote.ContextErr(ctx) != nil || remote.Retryable(err) || remote.KindOf(err) == remote.BadHandle:
			return err
		default:
			t.forgo(err)
			return nil
		}
	}
	t.allAlone(errAlone)
	return nil
}

// send stores one archive. If it fails, nothing is left that would be minded.
func (t *batch) send(ctx context.Context, name string, a *tarball) (remote.Entry, error) {
	t.tar = remote.Join(t.hidden, name)
	e, err := t.b.putSource(ctx, opBatch, t.tar, a, remote.PutOptions{Cond: remote.Cond{NotExist: true}}, true)
	if err != nil {
		t.b.tears.mend(t.b.full(t.tar)) // nobody will write it again
	}
	return e, err
}
