package webdav

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// A directory comes in one answer where the server packs it: see zipfolder.go and
// archiver.go. An archive says nothing of versions, and may be of any moment while it was
// made. So
//
//   - what has the SHA-1 of its version (the oCIS family) is of that version;
//   - else a listing afterwards must still show the version, and no more provisional.
//     Members wait for that in memory; when they are too many, it is made in between.
//
// A zip is read by what the listing before has said of the sizes. A member whose size or
// version is another now, or whose name is new, could hold what looks like further members,
// whoever has written it: nothing behind it is believed.

// Bounds of one bundle.
const (
	packFiles = 5000
	packBytes = 64 << 20
	packSize  = 1 << 20 // of one file that is wanted
	packHeld  = 8 << 20 // bytes that wait for their proof
)

// packName is the most that a member takes in an archive besides its content and, three
// times, its name: headers, padding and its share of the directory at the end.
const packName = 2 << 10

// packEnd is what is read behind the last member, so that the connection can be used again.
const packEnd = 1 << 20

// How long a server is not asked again.
const (
	packRefused = time.Hour        // after it has said that it cannot do it
	packBroken  = 10 * time.Minute // after it has sent nonsense
	packPause   = time.Minute      // after it was in trouble
)

// packIdle is how long nothing may come of an archive: a server that is slow at this one
// thing must not be taken for dead.
const packIdle = 10 * time.Second

var (
	errNotTar   = errors.New("something else stands in the tar")
	errPackIdle = errors.New("the server packs too slowly")
	errPackLong = errors.New("the archive is longer than the files of the directory")
)

// packPlan says how directories are packed here.
type packPlan struct {
	zip      bool
	archiver string // its URL, "" for none
	files    int
	bytes    int64
	turn     chan struct{} // held by the one bundle on its way
	until    atomic.Int64  // it is not used before that time, in nanoseconds since 1970
	idle     time.Duration
	held     atomic.Int64 // bytes in memory
}

// rest lets the server alone for a while.
func (p *packPlan) rest(d time.Duration) { p.until.Store(time.Now().Add(d).UnixNano()) }

// on tells whether there is something to ask for now.
func (p *packPlan) on() bool {
	return (p.zip || p.archiver != "") && time.Now().UnixNano() >= p.until.Load()
}

// Bundles implements remote.Bundler. A bundle may need a connection besides its own.
func (b *Backend) Bundles() remote.Bundles {
	p := &b.packs
	if !p.on() || b.opts.MaxConns < 2 {
		return remote.Bundles{}
	}
	return remote.Bundles{Files: p.files, Bytes: p.bytes, Size: min(packSize, p.bytes)}
}

// ReadBundle implements remote.Bundler. It costs the archive and a PROPFIND.
func (b *Backend) ReadBundle(ctx context.Context, dir string, files []remote.BundleFile, yield func(int, []byte) error) error {
	ctx, c, done, err := b.begin(ctx, "readbundle", dir)
	if err != nil {
		return err
	}
	defer done()
	most := b.Bundles()
	u := &unpacking{c: c, files: files, yield: yield, places: map[string]int{}, want: most.Size}
	switch total := u.index(); {
	case b.hidden(dir):
		return c.fail(remote.NotExist, nil)
	case most.Files <= 1:
		return c.failf(remote.Unsupported, "the server does not pack directories, or not now")
	case len(files) > most.Files || total > most.Bytes:
		return c.failf(remote.Unsupported, "%d files of %d bytes are too much for one archive", len(files), total)
	default:
		u.total = total
	}
	select {
	case b.packs.turn <- struct{}{}:
		defer func() { <-b.packs.turn }()
	case <-ctx.Done():
		return remote.ContextErr(ctx)
	}
	return u.run(ctx)
}

// pack is an archive as it comes.
type pack interface {
	// next goes to the next member and returns its name, with a slash at the end of that
	// of a directory; io.EOF after the last.
	next() (name string, err error)
	// content writes the content of the member, which must be of that size, to w.
	content(size int64, w io.Writer) error
}

// unpacking is one bundle on its way.
type unpacking struct {
	c      *call
	files  []remote.BundleFile
	yield  func(int, []byte) error
	places map[string]int // of files by name; of those that have come, -1
	want   int64          // size up to which a file is taken
	total  int64          // bytes of all files
	names  int64          // bytes of their names

	held  []arrived // in the order in which they came
	bytes int64     // of them
	over  bool      // nothing more is believed
	halt  error     // from yield
}

// arrived is a file that has come; data is nil if it is not wanted.
type arrived struct {
	i    int
	data []byte
}

// index prepares places and returns the bytes of all files.
func (u *unpacking) index() (total int64) {
	for i, f := range u.files {
		_, name := remote.Split(f.Ref.Path)
		u.places[name] = i
		u.names += int64(len(name))
		total += max(f.Ref.Size, 0)
	}
	return total
}

// run asks for the archive and takes up what comes.
func (u *unpacking) run(ctx context.Context) error {
	defer u.drop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(u.c.b.packs.idle, func() {
		cancel(u.c.fail(remote.Unsupported, errPackIdle))
	})
	defer slow.Stop()
	ask, open := u.c.zipped, openZip
	if u.c.b.packs.archiver != "" {
		ask, open = u.c.archived, openTar
	}
	resp, err := ask(ctx, u.total)
	if err == nil {
		slow.Stop()
		err = u.unpack(ctx, resp, open, slow)
	}
	if errors.Is(context.Cause(ctx), errPackIdle) {
		u.c.b.packs.rest(packBroken)
	}
	return err
}

// unpack reads the archive and closes it.
func (u *unpacking) unpack(ctx context.Context, resp *http.Response, open func(io.Reader) pack, slow *time.Timer) error {
	// More than all files and their headers nobody needs to read.
	most := u.total + int64(len(u.files)+2)*(packName+int64(len(u.c.path))*3) + 3*u.names + packEnd
	body := &packBody{ctx: ctx, r: resp.Body, left: most, slow: slow, idle: u.c.b.packs.idle}
	err := u.members(ctx, open(body))
	if err == nil && !u.over {
		_, _ = io.CopyN(io.Discard, body, packEnd) // an error here only costs the connection
		closeBody(resp)                            // before another request: there may be no other
	} else {
		_ = resp.Body.Close() // without waiting for the rest
	}
	switch {
	case u.halt != nil:
		return u.halt
	case err != nil:
		return u.broken(ctx, err)
	}
	if err := u.prove(ctx); err != nil {
		return err
	}
	return u.halt
}

// broken makes an error of an archive that cannot be read on.
func (u *unpacking) broken(ctx context.Context, err error) error {
	var known *remote.Error
	switch {
	case ctx.Err() != nil:
		return u.c.broken(ctx, err, false)
	case errors.As(err, &known):
		return err // of a listing in between, or of a pace
	}
	u.c.b.packs.rest(packBroken)
	if errors.Is(err, errPackLong) {
		return u.c.fail(remote.Unsupported, err)
	}
	for _, wrong := range []error{errZip, errNotZip, errPacked, errNotTar, tar.ErrHeader} {
		if errors.Is(err, wrong) {
			return u.c.fail(remote.Corrupt, err)
		}
	}
	return u.c.fail(remote.Unavailable, fmt.Errorf("the archive is cut short: %w", err))
}

// members takes up all members, as long as they are those of the listing.
func (u *unpacking) members(ctx context.Context, p pack) error {
	for !u.over {
		name, err := p.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, below := strings.Cut(name, "/")
		if below && name == "" {
			continue // the directory itself
		}
		i, ok := u.places[name]
		if !below || !ok || i < 0 {
			u.over = true // new, or twice
			return nil
		}
		u.places[name] = -1
		if err := u.take(ctx, i, p); err != nil {
			return err
		}
	}
	return nil
}

// take takes up one member.
func (u *unpacking) take(ctx context.Context, i int, p pack) error {
	f := u.files[i]
	m, w := arrived{i: i}, io.Discard
	if f.Want && f.Ref.Size <= u.want {
		buf := bytes.NewBuffer(make([]byte, 0, f.Ref.Size))
		u.hold(f.Ref.Size)
		m.data, w = buf.Bytes()[:f.Ref.Size], buf
	}
	err := p.content(f.Ref.Size, w)
	if errors.Is(err, errElsewise) {
		_, u.over = p.(*zipStream) // a tar tells its sizes itself
		return nil
	}
	if err != nil {
		return err
	}
	if sum := sumOf(f.Ref.Version); sum != "" {
		return u.compare(m, sum)
	}
	u.held = append(u.held, m)
	if u.bytes >= packHeld {
		return u.prove(ctx)
	}
	return nil
}

// compare gives a member out if it has the SHA-1 of its version.
func (u *unpacking) compare(m arrived, sum string) error {
	defer u.hold(-int64(len(m.data)))
	if m.data == nil {
		return nil
	}
	h := remote.NewHash("sha1")
	h.Write(m.data)
	if equalHex(fmt.Sprintf("%x", h.Sum(nil)), sum) {
		u.halt = u.yield(m.i, m.data)
	}
	return u.halt
}

// hold counts bytes that are in memory.
func (u *unpacking) hold(n int64) {
	u.bytes += n
	u.c.b.packs.held.Add(n)
}

// drop forgets what was held.
func (u *unpacking) drop() {
	u.c.b.packs.held.Add(-u.bytes)
	u.held, u.bytes = nil, 0
}

// standing tells what a listing shows of a version.
type standing uint8

const (
	gone    standing = iota // there is another, or none
	shaky                   // it is there, and no proof
	settled                 // it is there
)

// prove lists the directory and gives out what is proven by that.
func (u *unpacking) prove(ctx context.Context) error {
	defer u.drop()
	if len(u.held) == 0 {
		return nil
	}
	shown, err := u.look(ctx)
	if err != nil {
		return err
	}
	for _, m := range u.held {
		if shown[m.i] == gone {
			u.over = true
			return nil
		}
		if m.data == nil || shown[m.i] == shaky {
			continue
		}
		if u.halt = u.yield(m.i, m.data); u.halt != nil {
			return u.halt
		}
	}
	return nil
}

// look lists the directory and compares it with the files that are held.
func (u *unpacking) look(ctx context.Context) (map[int]standing, error) {
	held := make(map[string]int, len(u.held))
	for _, m := range u.held {
		held[u.files[m.i].Ref.Path] = m.i
	}
	shown := make(map[int]standing, len(u.held))
	b := u.c.b
	l := &listing{c: u.c, h: b.hrefs(strings.TrimSuffix(u.c.path, "/")), yield: func(f found) error {
		i, ok := held[f.Path]
		if !ok {
			return nil
		}
		ref := u.files[i].Ref
		if f.Type == remote.File && f.Size == ref.Size && ref.Version != "" && b.sameVersion(f.Version, ref.Version) {
			shown[i] = settled
			if f.Provisional {
				shown[i] = shaky
			}
		}
		return nil
	}}
	return shown, l.run(ctx)
}

// packBody is an archive on its way. It sees that something comes, and waits for those
// who bound the rate.
type packBody struct {
	ctx  context.Context
	r    io.Reader
	left int64 // bytes that may come
	slow *time.Timer
	idle time.Duration
}

// Read implements io.Reader.
func (b *packBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errPackLong
	}
	b.slow.Reset(b.idle)
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.slow.Stop()
	b.left -= int64(n)
	if perr := remote.Received(b.ctx, n); perr != nil {
		return 0, perr
	}
	return n, err
}
