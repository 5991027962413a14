package webdav

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

const content = "0123456789"

// raw answers with exactly what it is told, by hand, so that it can lie.
func raw(t *testing.T, w http.ResponseWriter, answer string) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = buf.WriteString(strings.ReplaceAll(answer, "\n", "\r\n"))
	_ = buf.Flush()
}

// propfindOf is the answer about one file.
func propfindOf(path, tag string, size int) string {
	return fmt.Sprintf(`<d:multistatus xmlns:d="DAV:"><d:response><d:href>%s</d:href><d:propstat><d:prop><d:getcontentlength>%d</d:getcontentlength>`+
		`<d:resourcetype/><d:getetag>"%s"</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>`, path, size, tag)
}

// TestLyingAnswers: bytes count only if all the answer says fits what was asked.
func TestLyingAnswers(t *testing.T) {
	whole := remote.Ref{Path: "/f", Version: "v1", Size: 10}
	for name, c := range map[string]struct {
		off, n int
		answer string
		want   string // bytes, or
		kind   remote.Kind
	}{
		"as it should be":         {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "2345", 0},
		"a weak tag":              {2, 4, "HTTP/1.1 206 x\nETag: W/\"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "2345", 0},
		"a size left open":        {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/*\nContent-Length: 4\n\n2345", "2345", 0},
		"200 for a range":         {2, 4, "HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 10\n\n" + content, "2345", 0},
		"200 for the whole":       {0, 10, "HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 10\n\n" + content, content, 0},
		"past the end":            {8, 5, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 8-9/10\nContent-Length: 2\n\n89", "89", 0},
		"a mark of compression":   {2, 4, "HTTP/1.1 206 x\nETag: \"v1-gzip\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "2345", 0},
		"more than its length":    {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n23456789", "2345", 0},
		"another mark":            {2, 4, "HTTP/1.1 206 x\nETag: \"v1-new\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "", remote.Changed},
		"304":                     {2, 4, "HTTP/1.1 304 x\nETag: \"v1\"\n\n", "", remote.Corrupt},
		"a redirect to nowhere":   {2, 4, "HTTP/1.1 307 x\nContent-Length: 0\n\n", "", remote.Corrupt},
		"a redirect in circles":   {2, 4, "HTTP/1.1 307 x\nLocation: /f\nContent-Length: 0\n\n", "", remote.Unsupported},
		"a compressed whole":      {2, 4, "HTTP/1.1 200 x\nETag: \"v1\"\nContent-Encoding: gzip\nContent-Length: 10\n\n0123456789", "", remote.Corrupt},
		"two lengths":             {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\nContent-Length: 5\n\n23456", "", remote.Unavailable},
		"another tag":             {2, 4, "HTTP/1.1 206 x\nETag: \"v2\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "", remote.Changed},
		"another size":            {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/11\nContent-Length: 4\n\n2345", "", remote.Changed},
		"another size in 200":     {0, 10, "HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 11\n\n0123456789A", "", remote.Changed},
		"412":                     {2, 4, "HTTP/1.1 412 x\nContent-Length: 0\n\n", "", remote.Changed},
		"404":                     {2, 4, "HTTP/1.1 404 x\nContent-Length: 0\n\n", "", remote.NotExist},
		"423":                     {2, 4, "HTTP/1.1 423 x\nContent-Length: 0\n\n", "", remote.Locked},
		"another place":           {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 3-6/10\nContent-Length: 4\n\n3456", "", remote.Corrupt},
		"no range told":           {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Length: 4\n\n2345", "", remote.Corrupt},
		"several parts":           {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Type: multipart/byteranges; boundary=x\nContent-Length: 4\n\n2345", "", remote.Corrupt},
		"more than asked for":     {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-7/10\nContent-Length: 6\n\n234567", "2345", 0},
		"less than asked for":     {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-3/10\nContent-Length: 2\n\n23", "", remote.Unavailable},
		"a length that lies":      {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 5\n\n23456", "", remote.Corrupt},
		"a body cut short":        {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n23", "", remote.Unavailable},
		"a 200 cut short":         {2, 4, "HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 10\n\n0123", "", remote.Unavailable},
		"a body without length":   {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\n\n23", "", remote.Unavailable},
		"XRootD's empty range":    {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 4000--1/10\nContent-Length: 0\n\n", "", remote.Corrupt},
		"compressed":              {2, 4, "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Encoding: gzip\nContent-Range: bytes 2-5/10\nContent-Length: 4\n\n2345", "", remote.Corrupt},
		"500":                     {2, 4, "HTTP/1.1 500 x\nContent-Length: 0\n\n", "", remote.Unavailable},
		"a 204":                   {2, 4, "HTTP/1.1 204 x\n\n", "", remote.Corrupt},
		"garbage":                 {2, 4, "SSH-2.0-OpenSSH\n\n", "", remote.Unavailable},
		"nothing":                 {2, 4, "", "", remote.Unavailable},
		"416 by a shrunken file":  {8, 2, "HTTP/1.1 416 x\nContent-Range: bytes */5\nContent-Length: 0\n\n", "", remote.Changed},
		"a huge head":             {2, 4, "HTTP/1.1 206 x\nX: " + strings.Repeat("x", 2<<20) + "\n\n", "", remote.Unavailable},
		"a 200 of unknown length": {2, 4, "HTTP/1.1 200 x\nETag: \"v1\"\nConnection: close\n\n" + content, "2345", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PROPFIND" {
					capture{207, http.Header{}, propfindOf("/f", "v1", 10)}.write(w)
					return
				}
				if r.Header.Get("Accept-Encoding") != "identity" {
					t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
				}
				raw(t, w, c.answer)
			})
			b := s.actor(t, Unknown, "")
			p := make([]byte, c.n)
			n, err := b.ReadAt(t.Context(), whole, p, int64(c.off))
			if c.kind != 0 {
				isKind(t, err, c.kind)
				if n != 0 {
					t.Errorf("%d bytes with the error", n)
				}
				return
			}
			if string(p[:n]) != c.want || err != nil && !(err == io.EOF && n < c.n) {
				t.Errorf("read %q, %v, want %q", p[:n], err, c.want)
			}
		})
	}
}

// TestNoRanges: a server that refuses ranges is asked for one once.
func TestNoRanges(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusRequestedRangeNotSatisfiable} {
		var ranged atomic.Int64
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			switch {
			case r.Method == "PROPFIND":
				capture{207, http.Header{}, propfindOf("/f", "v1", 10)}.write(w)
				return
			case r.Header.Get("Range") != "":
				ranged.Add(1)
				if status != http.StatusOK {
					w.WriteHeader(status)
					return
				}
			}
			_, _ = io.WriteString(w, content)
		})
		b := s.actor(t, Unknown, "")
		if !b.Caps().Ranges {
			t.Fatal("no ranges from the start")
		}
		for off := range 8 {
			p := make([]byte, 3)
			n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: 10}, p, int64(off))
			if n != 3 && err != io.EOF || string(p[:n]) != content[off:off+n] {
				t.Errorf("at %d: %q, %v", off, p[:n], err)
			}
		}
		if ranged.Load() != 1 || b.Caps().Ranges {
			t.Errorf("%d: asked for a range %d times, caps say %v", status, ranged.Load(), b.Caps().Ranges)
		}
	}
}

// TestNoRequest: what the size tells needs no server.
func TestNoRequest(t *testing.T) {
	s := newStage(t, func(http.ResponseWriter, *http.Request) { t.Error("a request") })
	b := s.actor(t, Nextcloud, "")
	for _, c := range []struct{ size, off int64 }{{0, 0}, {0, 5}, {10, 10}, {10, 11}} {
		n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: c.size}, make([]byte, 4), c.off)
		if n != 0 || err != io.EOF {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
	}
	if n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: 10}, nil, 3); n != 0 || err != nil {
		t.Errorf("an empty buffer: %d, %v", n, err)
	}
}

// TestReadsLookAgain: on Nextcloud an equal tag may cover a change, so a part counts
// only if the version still stands afterwards. A whole file needs no second look.
func TestReadsLookAgain(t *testing.T) {
	const mtime = "Sat, 21 Nov 2026 20:50:56 GMT"
	var up atomic.Int64
	up.Store(1_900_000_000)
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"same"`)
		w.Header().Set("Date", "Sat, 21 Nov 2096 20:50:56 GMT")
		if r.Method == "PROPFIND" {
			body := strings.Replace(propfindOf("/f", "same", 10), "<d:resourcetype/>", "<d:resourcetype/><d:getlastmodified>"+mtime+"</d:getlastmodified>"+
				fmt.Sprintf(`<n:upload_time xmlns:n="http://nextcloud.org/ns">%d</n:upload_time>`, up.Load()), 1)
			capture{207, http.Header{}, body}.write(w)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	})
	b := s.actor(t, Nextcloud, "")
	e, err := b.Stat(t.Context(), "/f")
	if err != nil || e.Provisional || e.Version != "same up:1900000000" {
		t.Fatalf("%+v, %v", e, err)
	}
	ref := remote.Ref{Path: "/f", Version: e.Version, Size: 10}
	read := func(n int) error {
		_, err := b.ReadAt(t.Context(), ref, make([]byte, n), 0)
		return err
	}
	if err := errors.Join(read(4), read(10)); err != nil {
		t.Fatal(err)
	}
	if got, want := s.requests(), []string{"PROPFIND /f", "GET /f", "PROPFIND /f", "GET /f"}; !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
	up.Store(1_900_000_007) // overwritten: same mtime, same size, same tag
	isKind(t, read(4), remote.Changed)
}

// TestStreams checks the end of streams.
func TestStreams(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		kind   remote.Kind // at the end
	}{
		"whole":          {"HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 10\n\n" + content, 0},
		"chunked":        {"HTTP/1.1 200 x\nETag: \"v1\"\nTransfer-Encoding: chunked\n\na\n" + content + "\n0\n\n", 0},
		"cut":            {"HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 10\n\n01234", remote.Unavailable},
		"cut chunks":     {"HTTP/1.1 200 x\nETag: \"v1\"\nTransfer-Encoding: chunked\n\n5\n01234\n", remote.Unavailable},
		"short, unsaid":  {"HTTP/1.1 200 x\nETag: \"v1\"\nConnection: close\n\n01234", remote.Unavailable},
		"long, unsaid":   {"HTTP/1.1 200 x\nETag: \"v1\"\nConnection: close\n\n" + content + "AB", remote.Corrupt},
		"another tag":    {"HTTP/1.1 200 x\nETag: \"v2\"\nContent-Length: 10\n\n" + content, remote.Changed},
		"another length": {"HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: 9\n\n012345678", remote.Changed},
		"a 206":          {"HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 0-9/10\nContent-Length: 10\n\n" + content, remote.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PROPFIND" {
					capture{207, http.Header{}, propfindOf("/f", "v1", 10)}.write(w)
					return
				}
				raw(t, w, c.answer)
			})
			r, err := s.actor(t, Unknown, "").Open(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: 10})
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				if cerr := r.Close(); cerr != nil {
					t.Error(cerr)
				}
				_, late := r.Read(make([]byte, 1))
				isKind(t, late, remote.BadHandle)
			}
			if c.kind != 0 {
				isKind(t, err, c.kind)
			} else if err != nil || string(got) != content {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestContentRange(t *testing.T) {
	for in, want := range map[string]contentRange{
		"bytes 0-0/1": {0, 0, 1}, "bytes 5-9/*": {5, 9, -1}, "bytes 5-9/10": {5, 9, 10},
	} {
		if got, err := parseContentRange(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for in, total := range map[string]int64{
		"": -1, "bytes": -1, "bytes 1": -1, "bytes 5-4/10": 10, "bytes 5-10/10": 10, "bytes -5/10": 10, "bytes 5-/10": 10,
		"bytes 0-9/x": -1, "items 0-9/10": -1, "bytes 0-9/-1": -1, "bytes +1-2/9": 9, "bytes 99999999999999999999-2/9": 9,
	} {
		if got, err := parseContentRange(in); err == nil || got.total != total {
			t.Errorf("%q: accepted as %+v", in, got)
		}
	}
}
