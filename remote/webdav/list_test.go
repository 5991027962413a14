package webdav

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

// writeListing writes a listing of n files in /d, the odd ones twice.
func writeListing(w io.Writer, n int) error {
	out := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprint(out, `<d:multistatus xmlns:d="DAV:"><d:response><d:href>/d/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`)
	for i := range n {
		fmt.Fprintf(out, `<d:response><d:href>/d/f%d</d:href><d:propstat><d:prop><d:getcontentlength>%d</d:getcontentlength></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`, i-i%4/3, i)
	}
	fmt.Fprint(out, `</d:multistatus>`)
	return out.Flush()
}

// TestMillionEntries: memory holds eight bytes a name and not the directory.
func TestMillionEntries(t *testing.T) {
	n, limit := 1_000_000, uint64(100<<20)
	if underRace {
		n = 50_000
	}
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMultiStatus)
		if err := writeListing(w, n); err != nil {
			t.Error(err)
		}
	})
	b := s.actor(t, Unknown, "")
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	seen, most := 0, uint64(0)
	err := b.List(t.Context(), "/d", func(remote.Entry) error {
		if seen++; seen%(n/10) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
		return nil
	})
	if err != nil || seen != n-n/4 {
		t.Errorf("%d entries, want %d, %v", seen, n-n/4, err)
	}
	if most > before.HeapAlloc+limit {
		t.Errorf("%d MiB on the heap", (most-before.HeapAlloc)>>20)
	}
	if got := b.Stats().RefusedNames; got != int64(n/4) {
		t.Errorf("%d duplicates dropped, want %d", got, n/4)
	}
}

// TestGzip: listings come compressed, and a compressed listing that is cut is cut.
func TestGzip(t *testing.T) {
	cut := int64(1 << 40)
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			t.Error("gzip is not asked for")
		}
		var packed strings.Builder
		z := gzip.NewWriter(&packed)
		if err := errors.Join(writeListing(z, 1000), z.Close()); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = io.WriteString(w, packed.String()[:min(cut, int64(packed.Len()))])
	})
	b := s.actor(t, Unknown, "")
	if all, err := listAll(t.Context(), b, "/d"); err != nil || len(all) != 750 {
		t.Errorf("%d entries, %v", len(all), err)
	}
	for _, cut = range []int64{0, 5, 100, 1000, 3000} {
		_, err := listAll(t.Context(), b, "/d")
		isKind(t, err, remote.Unavailable)
	}
}

// TestEndlessListing stops when the caller does.
func TestEndlessListing(t *testing.T) {
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusMultiStatus)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, `<d:multistatus xmlns:d="DAV:"><!-- `+strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	})
	b := s.actor(t, Unknown, "")
	_, err := listAll(t.Context(), b, "/d")
	isKind(t, err, remote.Corrupt)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listAll(ctx, b, "/d"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestNoRmdirOverWhatIsNotShown: a directory that holds a name that no listing shows is not
// empty: DELETE would take it along.
func TestNoRmdirOverWhatIsNotShown(t *testing.T) {
	entry := func(href, kind string) string {
		return `<d:response><d:href>` + href + `</d:href><d:propstat><d:prop><d:resourcetype>` + kind + `</d:resourcetype>` +
			`<d:getcontentlength>1</d:getcontentlength></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`
	}
	for what, odd := range map[string]string{
		"a name with a slash": entry("/d/a%2Fb", ""), "dots": entry("/d/%2E%2E", ""), "of another directory": entry("/e/f", ""),
		"no size": `<d:response><d:href>/d/f</d:href><d:propstat><d:prop><d:resourcetype/></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`,
	} {
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusMultiStatus)
			_, _ = io.WriteString(w, `<d:multistatus xmlns:d="DAV:">`+entry("/d/", "<d:collection/>")+odd+`</d:multistatus>`)
		})
		b := s.actor(t, Unknown, "")
		err := b.Remove(t.Context(), "/d", remote.RemoveOptions{Type: remote.Dir})
		if remote.KindOf(err) != remote.NotEmpty || err == nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, r := range s.requests() {
			if strings.HasPrefix(r, http.MethodDelete) {
				t.Errorf("%s: %s", what, r)
			}
		}
	}
}
