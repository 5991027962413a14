package webdav

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// capture is one recorded answer of a real server.
type capture struct {
	status int
	header http.Header
	body   string
}

// readCapture reads testdata/name: the request, a blank line or "---", the answer.
func readCapture(t testing.TB, name string) capture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if strings.HasSuffix(name, ".json") {
		return capture{200, http.Header{"Content-Type": {"application/json"}}, text}
	}
	_, answer, ok := strings.Cut(text, "\nHTTP/1.1 ")
	if !ok {
		t.Fatalf("%s holds no answer", name)
	}
	head, body, _ := strings.Cut(answer, "\n\n")
	lines := bufio.NewScanner(strings.NewReader(head))
	lines.Scan()
	code, _, _ := strings.Cut(lines.Text(), " ")
	c := capture{header: http.Header{}, body: body}
	if c.status, err = strconv.Atoi(code); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		c.header.Add(name, value)
	}
	return c
}

// stage is a server whose answers are given by a function.
type stage struct {
	*httptest.Server
	mu   sync.Mutex
	log  []*http.Request // without bodies
	play func(w http.ResponseWriter, r *http.Request)
}

// newStage starts a server that plays, and returns it.
func newStage(t *testing.T, play func(w http.ResponseWriter, r *http.Request)) *stage {
	t.Helper()
	s := &stage{play: play}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.log = append(s.log, r)
		s.mu.Unlock()
		s.play(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// requests returns "METHOD path" of all requests so far.
func (s *stage) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.log {
		all = append(all, r.Method+" "+r.URL.Path)
	}
	return all
}

// write sends a capture.
func (c capture) write(w http.ResponseWriter) {
	for name, values := range c.header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Upgrade":
			continue
		}
		w.Header()[name] = values
	}
	w.WriteHeader(c.status)
	_, _ = io.WriteString(w, c.body)
}

// actor returns a backend of a dialect whose root is path on the stage.
func (s *stage) actor(t *testing.T, dialect, path string) *Backend {
	t.Helper()
	u, _, err := ParseURL(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Options{URL: u}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBackend(o)
	if err != nil {
		t.Fatal(err)
	}
	b.traits, _ = rowOf(dialect)
	switch dialect {
	case Nextcloud:
		var caps capabilities
		caps.Capabilities.DAV.Chunking = "1.0"
		b.planChunks(&caps)
	case OCIS:
		b.planTus(&capabilities{}, http.Header{"Tus-Extension": {"creation"}})
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func isKind(t *testing.T, err error, kind remote.Kind) {
	t.Helper()
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error is %v, want %v", err, kind)
	}
}

// listAll returns the children of dir by name.
func listAll(ctx context.Context, b *Backend, dir string) (map[string]remote.Entry, error) {
	all := map[string]remote.Entry{}
	err := b.List(ctx, dir, func(e remote.Entry) error {
		_, name := remote.Split(e.Path)
		all[name] = e
		return nil
	})
	return all, err
}

// sites are the captured servers: dialect, directory of captures, path of the folder.
var sites = []struct{ dialect, dir, path string }{
	{Nextcloud, "nextcloud-34", "/remote.php/dav/files/alice/capture-dir"},
	{OCIS, "opencloud", "/remote.php/dav/files/alan/capture-dir"},
	{Reva, "reva", "/remote.php/dav/files/alice/capture-dir"},
}

func TestCapturedListings(t *testing.T) {
	plain := remote.AccessKnown | remote.AccessRead | remote.AccessWrite | remote.AccessDelete | remote.AccessRename
	want := map[string]remote.Entry{
		Nextcloud: {
			Path: "/plain.bin", Type: remote.File, Size: 13, MTime: time.Date(2026, 11, 21, 20, 50, 56, 0, time.UTC),
			Version: "5e43b4b67002e51114786bfe867bb206", ID: "00005825oc1vbobxa6p2", Access: plain,
		},
		OCIS: {
			Path: "/plain.bin", Type: remote.File, Size: 13, MTime: time.Date(2026, 11, 21, 20, 51, 12, 0, time.UTC),
			Version:  "a5119b01465a19e0b825dae7fe4f1108 sha1:5506e508533ca7b47ac8ed1107296408b34146d3",
			ID:       "428f328f-f9e8-4352-a757-73dc365d31e4$b1f74ec4-dd7e-11ef-a543-03775734d0f7!a171d329-4b78-451f-972b-0da362f3a5e3",
			Access:   plain,
			Checksum: remote.Checksum{Algorithm: "sha1", Hex: "5506e508533ca7b47ac8ed1107296408b34146d3"},
		},
		Reva: {
			Path: "/plain.bin", Type: remote.File, Size: 13, MTime: time.Date(2026, 11, 21, 20, 51, 15, 0, time.UTC),
			Version: "4552bbe8c0a70dbabbbe8734bebca262", Provisional: true, Access: plain,
		},
	}
	for _, site := range sites {
		t.Run(site.dialect, func(t *testing.T) {
			answer := readCapture(t, site.dir+"/propfind-depth1.txt")
			s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { answer.write(w) })
			b := s.actor(t, site.dialect, site.path)
			all, err := listAll(t.Context(), b, "/")
			if err != nil {
				t.Fatal(err)
			}
			got := all["plain.bin"]
			got.MTime = got.MTime.UTC()
			if got != want[site.dialect] {
				t.Errorf("got  %+v\nwant %+v", got, want[site.dialect])
			}
			if odd := all["ä & <#%.txt"]; odd.Type != remote.File || odd.Size != 1 {
				t.Errorf("the odd name is %+v of %v", odd, all)
			}
			sub := all["sub dir"]
			if sub.Type != remote.Dir || sub.Size != 0 || !sub.Access.Can(remote.AccessMkdir|remote.AccessCreate) {
				t.Errorf("the directory is %+v", sub)
			}
			if hasVersion := sub.Version != ""; hasVersion == (site.dialect == Reva) {
				t.Errorf("version of the directory is %q", sub.Version)
			}
			if b.Stats().RefusedNames != 0 {
				t.Errorf("%d names refused", b.Stats().RefusedNames)
			}
		})
	}
}

// TestCapturedClientTime: an mtime of years ago tells that the client set it, so the
// time of the upload is part of the version.
func TestCapturedClientTime(t *testing.T) {
	answer := readCapture(t, "nextcloud-34/propfind-depth1.txt")
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) { answer.write(w) })
	all, err := listAll(t.Context(), s.actor(t, Nextcloud, sites[0].path), "/")
	if err != nil {
		t.Fatal(err)
	}
	got := all["with-checksum.bin"]
	if got.Version != "7392e5b62ca92522a772540d2a2ad8f9 up:1795294257" || got.Provisional {
		t.Errorf("got %+v", got)
	}
	if got.Checksum != (remote.Checksum{}) {
		t.Errorf("the checksum %v was only sent by a client and is no proof", got.Checksum)
	}
}

func TestCapturedErrors(t *testing.T) {
	put := func(b *Backend, path string, cond remote.Cond) error {
		_, err := b.Put(context.Background(), path, text("x"), remote.PutOptions{Cond: cond})
		return err
	}
	for _, site := range sites {
		for _, c := range []struct {
			file string
			kind remote.Kind
			do   func(b *Backend) error
		}{
			{"propfind-missing.txt", remote.NotExist, func(b *Backend) error {
				_, err := b.Stat(context.Background(), "/none")
				return err
			}},
			{"delete-missing.txt", remote.NotExist, func(b *Backend) error {
				return b.Remove(context.Background(), "/none", remote.RemoveOptions{Type: remote.File})
			}},
			{"put-if-match-wrong.txt", remote.Conflict, func(b *Backend) error {
				return put(b, "/plain.bin", remote.Cond{Version: "0123"})
			}},
		} {
			t.Run(site.dialect+"/"+c.file, func(t *testing.T) {
				answer := readCapture(t, site.dir+"/"+c.file)
				depth1 := readCapture(t, site.dir+"/propfind-depth1.txt")
				s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == "PROPFIND" && !strings.HasSuffix(r.URL.Path, "/none") {
						depth1.write(w)
						return
					}
					answer.write(w)
				})
				isKind(t, c.do(s.actor(t, site.dialect, site.path)), c.kind)
			})
		}
	}
}

func TestCapturedMessages(t *testing.T) {
	for file, want := range map[string]string{
		"nextcloud-34/propfind-missing.txt":            "File with name /capture-dir/none could not be located",
		"nextcloud-34/chunked-4-move-wrong-length.txt": "Chunks on server do not sum up to 99 but to 11 bytes",
		"opencloud/propfind-missing.txt":               "Resource not found",
		"opencloud/wrong-password.txt":                 "Authentication error",
		"opencloud/put-on-dir.txt":                     "",
		"reva/propfind-missing.txt":                    "Resource /home/capture-dir/none not found",
		"nextcloud-34/propfind-depth0.txt":             "",
	} {
		if got := errorMessage(strings.NewReader(readCapture(t, file).body)); got != want {
			t.Errorf("%s: message %q, want %q", file, got, want)
		}
	}
}

func TestCapturedRange(t *testing.T) {
	for _, site := range sites[:2] {
		answer, look := readCapture(t, site.dir+"/get-range.txt"), readCapture(t, site.dir+"/propfind-depth1.txt")
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PROPFIND" {
				look.write(w)
				return
			}
			if got := r.Header.Get("Range"); got != "bytes=2-5" {
				t.Errorf("range %q", got)
			}
			answer.write(w)
		})
		b := s.actor(t, site.dialect, site.path)
		e, err := b.Stat(t.Context(), "/plain.bin")
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4)
		n, err := b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 2)
		if n != 4 || err != nil || string(p) != "llo " {
			t.Errorf("%s: read %q, %v", site.dialect, p[:n], err)
		}
		_, err = b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: "00", Size: e.Size}, p, 2)
		isKind(t, err, remote.Changed)
	}
}

// TestCapturedDial dials the captured Nextcloud and OpenCloud.
func TestCapturedDial(t *testing.T) {
	for _, site := range sites {
		depth0 := readCapture(t, site.dir+"/propfind-depth0.txt")
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == "PROPFIND":
				depth0.write(w)
			case site.dialect == Reva:
				w.WriteHeader(http.StatusNotFound)
			case r.URL.Path == "/status.php":
				readCapture(t, site.dir+"/status.json").write(w)
			case r.URL.Path == "/ocs/v2.php/cloud/capabilities":
				readCapture(t, site.dir+"/capabilities.json").write(w)
			}
		})
		u, _, err := ParseURL(s.URL + site.path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Dial(t.Context(), Options{URL: u})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if b.Info().Dialect != site.dialect {
			t.Errorf("found %q, want %q", b.Info().Dialect, site.dialect)
		}
		switch site.dialect {
		case Nextcloud:
			if b.chunks.base != s.URL+"/remote.php/dav/uploads/alice" || b.chunks.max != 100<<20 || b.chunks.parallel != 5 {
				t.Errorf("plan for chunks is %+v", b.chunks)
			}
		default:
			if b.traits.over != wayTus || b.tus.piece == 0 {
				t.Errorf("no tus: %+v", b.tus)
			}
		}
	}
}
