package webdav_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// packer is a server that packs directories, with a client and a directory /d whose files
// are old enough for their versions to be proven.
type packer struct {
	*efss.Running
	t        *testing.T
	b        *webdav.Backend
	ahead    atomic.Int64 // of the server's clock, in seconds
	contents map[string][]byte
}

func newPacker(t *testing.T, d efss.Dialect, files, size int, change ...func(*efss.Options)) *packer {
	t.Helper()
	p := &packer{t: t, contents: map[string][]byte{}}
	opts := efss.Options{Dir: t.TempDir(), Dialect: d, Users: []efss.User{{Name: user, AppPassword: password}},
		Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load()) * time.Second) }}
	for _, c := range change {
		c(&opts)
	}
	run, err := efss.Start(opts, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Running = run
	o := options(t, run.DAVURL(user))
	p.b = dial(t, o)
	t.Cleanup(func() {
		if err := p.b.Close(); err != nil {
			t.Error(err)
		}
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := p.b.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		p.put(fmt.Sprintf("f%04d", i), remotetest.Pattern(size+i%7, byte(i)))
	}
	p.ahead.Add(10)
	return p
}

func (p *packer) put(name string, data []byte) {
	p.t.Helper()
	if _, err := p.b.Put(p.t.Context(), "/d/"+name, remotetest.Bytes(data), remote.PutOptions{}); err != nil {
		p.t.Fatal(err)
	}
	p.contents[name] = data
}

// files lists /d, sorted by name; all are wanted.
func (p *packer) files() (files []remote.BundleFile) {
	p.t.Helper()
	err := p.b.List(p.t.Context(), "/d", func(e remote.Entry) error {
		files = append(files, remote.BundleFile{Ref: remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, Want: true})
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b remote.BundleFile) int { return strings.Compare(a.Ref.Path, b.Ref.Path) })
	return files
}

// read reads a bundle and returns the names that came; what comes must be right.
func (p *packer) read(ctx context.Context, files []remote.BundleFile) (names []string, err error) {
	p.t.Helper()
	err = p.b.ReadBundle(ctx, "/d", files, func(i int, data []byte) error {
		_, name := remote.Split(files[i].Ref.Path)
		if !bytes.Equal(data, p.contents[name]) || slices.Contains(names, name) {
			p.t.Errorf("%s came wrong, or twice", name)
		}
		names = append(names, name)
		return nil
	})
	return names, err
}

// packs answers GET of archives with a fault.
func (p *packer) packs(f *efss.Fault) {
	p.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == http.MethodGet && (r.URL.Path == "/archiver" || strings.HasSuffix(r.URL.Path, "/d/")) {
			return f
		}
		return nil
	})
}

var packDialects = []efss.Dialect{efss.Nextcloud, efss.OpenCloud}

// TestBundleRequests: a directory is two requests, and memory is bounded.
func TestBundleRequests(t *testing.T) {
	for _, d := range packDialects {
		t.Run(d.String(), func(t *testing.T) {
			p := newPacker(t, d, 300, 4<<10)
			files := p.files()
			p.ResetRequests()
			names, err := p.read(t.Context(), files)
			if err != nil || len(names) != 300 {
				t.Errorf("%d files came: %v", len(names), err)
			}
			if p.Count("GET") != 1 || p.Count("PROPFIND") != 1 || p.Count("") != 2 {
				t.Errorf("%d requests", p.Count(""))
			}
		})
	}
}

// TestBundleMemory: of many files few are in memory at a time.
func TestBundleMemory(t *testing.T) {
	p := newPacker(t, efss.Nextcloud, 40, 1<<20-8) // 40 MiB
	files := p.files()
	p.ResetRequests()
	var most atomic.Int64
	p.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PROPFIND" { // nothing comes meanwhile
			most.Store(max(most.Load(), p.b.Held()))
		}
		return nil
	})
	if names, err := p.read(t.Context(), files); err != nil || len(names) != 40 {
		t.Errorf("%d files came: %v", len(names), err)
	}
	if n := most.Load(); n > 10<<20 || n < 4<<20 {
		t.Errorf("%d bytes were in memory", n)
	}
	if n := p.Count("PROPFIND"); n > 6 {
		t.Errorf("%d listings", n)
	}
	if n := p.b.Held(); n != 0 {
		t.Errorf("%d bytes are counted for ever", n)
	}
}

// TestBundleRefused: a server that cannot do it, or does it badly, is not asked again for a
// while. What came before is right, and nothing else comes.
func TestBundleRefused(t *testing.T) {
	page := http.Header{"Content-Type": {"text/html"}}
	for name, c := range map[string]struct {
		fault *efss.Fault
		want  remote.Kind
		rests bool
	}{
		"404":            {&efss.Fault{Status: 404}, remote.Unsupported, true},
		"403":            {&efss.Fault{Status: 403}, remote.Unsupported, true},
		"501":            {&efss.Fault{Status: 501}, remote.Unsupported, true},
		"500":            {&efss.Fault{Status: 500}, remote.Unsupported, true},
		"503":            {&efss.Fault{Status: 503}, remote.Unavailable, true},
		"a page":         {&efss.Fault{Status: 200, Header: page, Body: "<html>"}, remote.Unsupported, true},
		"cut":            {&efss.Fault{CutReply: true, ReplyAt: 100_000}, remote.Unavailable, true},
		"cut at once":    {&efss.Fault{CutReply: true, ReplyAt: 5}, remote.Unavailable, true},
		"no answer":      {&efss.Fault{Hang: true}, remote.Unsupported, true},
		"a standstill":   {&efss.Fault{Stall: true, ReplyAt: 100_000}, remote.Unsupported, true},
		"too slow a way": {&efss.Fault{PerSecond: 4 << 20}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range packDialects {
				p := newPacker(t, d, 40, 5000)
				p.b.SetPackIdle(2 * time.Second)
				files := p.files()
				p.packs(c.fault)
				names, err := p.read(t.Context(), files)
				if c.want == 0 && (err != nil || len(names) != 40) || c.want != 0 && (err == nil || remote.KindOf(err) != c.want) {
					t.Errorf("%v: %d files, %v; want %v", d, len(names), err, c.want)
				}
				if c.want != 0 && d == efss.Nextcloud && len(names) > 0 {
					t.Errorf("%d files came unproven", len(names))
				}
				if rests := p.b.Bundles().Files == 0; rests != c.rests {
					t.Errorf("%v: given up for a while is %t", d, rests)
				}
				if _, err := p.read(t.Context(), files); c.rests && remote.KindOf(err) != remote.Unsupported {
					t.Errorf("%v: asked again: %v", d, err)
				}
			}
		})
	}
}

// TestBundleErrorInside: an answer that begins well has an error inside, and ends well.
func TestBundleErrorInside(t *testing.T) {
	p := newPacker(t, efss.Nextcloud, 10, 5000)
	files := p.files()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.DAVURL(user)+"d/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	r.Header.Set("Accept", "application/zip")
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(whole, []byte("PK\x03\x04"))
	p.packs(&efss.Fault{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/zip"}},
		Body: string(whole[:at]) + `<?xml version="1.0" encoding="utf-8"?><d:error xmlns:d="DAV:"/>`})
	names, err := p.read(t.Context(), files)
	if remote.KindOf(err) != remote.Corrupt || len(names) != 0 || p.b.Bundles().Files != 0 {
		t.Errorf("%v: %v", names, err)
	}
}

// TestBundleOldServer: a server from before this was invented sends a page.
func TestBundleOldServer(t *testing.T) {
	p := newPacker(t, efss.Nextcloud, 10, 100, func(o *efss.Options) { o.NoFolders = true })
	names, err := p.read(t.Context(), p.files())
	if remote.KindOf(err) != remote.Unsupported || len(names) != 0 || p.b.Bundles().Files != 0 {
		t.Errorf("%v: %v", names, err)
	}
}

// TestBundleCutSilently: an archiver that ends at its limits loses nothing.
func TestBundleCutSilently(t *testing.T) {
	p := newPacker(t, efss.OpenCloud, 30, 1000, func(o *efss.Options) { o.ArchiveFiles, o.ArchiveBytes = 21, 15_000 })
	if got := p.b.Bundles(); got.Files != 20 || got.Bytes != 15_000 {
		t.Errorf("the limits are taken as %+v", got)
	}
	files := p.files()
	if names, err := p.read(t.Context(), files); remote.KindOf(err) != remote.Unsupported || len(names) != 0 {
		t.Errorf("beyond the limits: %v: %v", names, err)
	}
	// Without being told, as if others had added to the directory meanwhile.
	if names, err := p.read(t.Context(), files[:14]); err != nil || len(names) != 14 {
		t.Errorf("%d files: %v", len(names), err)
	}
	for i := range files {
		files[i].Ref.Size = min(files[i].Ref.Size, 1)
	}
	if names, err := p.read(t.Context(), files[16:]); err != nil || len(names) != 0 {
		t.Errorf("%v: %v", names, err)
	}
}

// TestBundleChanges: while the archive is on its way a file becomes another. It does not
// come, nor what stands behind it where that cannot be told apart.
func TestBundleChanges(t *testing.T) {
	for _, d := range packDialects {
		t.Run(d.String(), func(t *testing.T) {
			p := newPacker(t, d, 20, 20_000)
			files := p.files()
			resume := make(chan struct{})
			p.packs(&efss.Fault{Stall: true, ReplyAt: 90_000, Resume: resume})
			var names []string
			done := make(chan error)
			go func() {
				var err error
				names, err = p.read(context.WithoutCancel(t.Context()), files)
				done <- err
			}()
			for p.b.Held() == 0 { // some have come
				time.Sleep(time.Millisecond)
			}
			p.change("f0001", remotetest.Pattern(len(p.contents["f0001"]), 99)) // came already
			p.change("f0015", remotetest.Pattern(70_000, 99))
			close(resume)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			want := []string{"f0000"}
			if d == efss.OpenCloud { // what came was of its version then, and a tar tells sizes
				for i := range 20 {
					want = append(want, fmt.Sprintf("f%04d", i))
				}
				want = slices.DeleteFunc(want[1:], func(s string) bool { return s == "f0015" })
			}
			if !slices.Equal(names, want) {
				t.Errorf("%v came, want %v", names, want)
			}
		})
	}
}

// change has somebody else replace a file; what was read of it before stays right.
func (p *packer) change(name string, data []byte) {
	p.t.Helper()
	if _, err := p.b.Put(p.t.Context(), "/d/"+name, remotetest.Bytes(data), remote.PutOptions{}); err != nil {
		p.t.Fatal(err)
	}
}

// TestBundleForged: a file that somebody replaces by one whose content looks like further
// members gives no other file its content.
func TestBundleForged(t *testing.T) {
	p := newPacker(t, efss.Nextcloud, 3, 5000)
	files := p.files()
	forged := forge(p.contents["f0000"], "d/f0001", bytes.Repeat([]byte("evil"), 1251)[:len(p.contents["f0001"])])
	p.change("f0000", forged)
	names, err := p.read(t.Context(), files)
	if err != nil || len(names) != 0 {
		t.Errorf("%v came: %v", names, err)
	}
}

// forge makes a content that begins with that of a file and goes on as a zip would.
func forge(content []byte, name string, other []byte) []byte {
	le := binary.LittleEndian
	end := func(out, content []byte) []byte {
		out = le.AppendUint32(append(out, "PK\x07\x08"...), crc32.ChecksumIEEE(content))
		return le.AppendUint64(le.AppendUint64(out, uint64(len(content))), uint64(len(content)))
	}
	head := func(out []byte, name string) []byte {
		out = append(out, "PK\x03\x04\x2d\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"...)
		out = le.AppendUint16(out, uint16(len(name)))
		out = append(le.AppendUint16(out, 32), name...)
		return append(append(out, 1, 0, 28, 0), make([]byte, 28)...)
	}
	out := head(end(bytes.Clone(content), content), name)
	return head(end(append(out, other...), other), "d/nobody")
}
