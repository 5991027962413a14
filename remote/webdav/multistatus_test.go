package webdav

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// collect parses doc and returns the hrefs.
func collect(doc string) ([]string, error) {
	var all []string
	err := parseMultistatus(strings.NewReader(doc), func(r *response) error {
		all = append(all, r.href)
		return nil
	})
	return all, err
}

func TestMultistatusForms(t *testing.T) {
	doc := `<?xml version="1.0" encoding="utf-8"?>
<!-- a comment -->
<A:multistatus xmlns:A="DAV:" xmlns:x="http://owncloud.org/ns">
  <A:responsedescription>nothing</A:responsedescription>
  <A:response><A:href> /a%20b </A:href>
    <A:propstat>
      <A:status>HTTP/1.1 200 OK</A:status>
      <prop xmlns="DAV:"><getetag>W/&#34;x&quot;</getetag><resourcetype><collection/></resourcetype>
        <getcontentlength>12</getcontentlength><x:permissions>RG<![CDATA[DN]]>VW</x:permissions>
        <x:checksums><x:checksum>SHA1:aa</x:checksum></x:checksums>
        <getetag xmlns="other:">no</getetag></prop>
    </A:propstat>
    <A:propstat><A:prop><A:getlastmodified/></A:prop><A:status>HTTP/1.1 404 Not Found</A:status></A:propstat>
    <A:propstat><A:prop><m/></A:prop><A:status>HTTP/1.1 424 Failed Dependency</A:status></A:propstat>
    <A:propstat><A:prop><n/></A:prop><A:status>HTTP/1.1 403 Forbidden</A:status></A:propstat>
  </A:response>
  <A:response><A:href>/gone</A:href><A:status>HTTP/1.1 404 Not Found</A:status></A:response>
</A:multistatus>
<!-- and one more -->
`
	var got []response
	err := parseMultistatus(strings.NewReader(doc), func(r *response) error {
		got = append(got, *r)
		return nil
	})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d responses, %v", len(got), err)
	}
	want := response{href: "/a%20b", found: true, refused: 403, props: props{
		etag: `W/"x"`, length: "12", collection: true, perms: "RGDNVW", checksums: "SHA1:aa",
	}}
	if got[0] != want {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if want := (response{href: "/gone", status: 404}); got[1] != want {
		t.Errorf("got %+v", got[1])
	}
}

// TestCutListings cuts real listings at every byte: none may pass for a whole one,
// and every one is told to be cut (but for cuts inside of a character).
func TestCutListings(t *testing.T) {
	for _, site := range sites {
		doc := readCapture(t, site.dir+"/propfind-depth1.txt").body
		end := strings.LastIndex(doc, ">") + 1
		step := 1
		if underRace {
			step = 11
		}
		for n := 0; n < end; n += step {
			if _, err := collect(doc[:n]); err == nil || utf8.ValidString(doc[:n]) && !errors.Is(err, errCut) {
				t.Fatalf("%s cut at %d of %d: %v", site.dialect, n, end, err)
			}
		}
		if all, err := collect(doc); err != nil || len(all) < 4 {
			t.Errorf("%s: %q, %v", site.dialect, all, err)
		}
	}
}

func TestBadListings(t *testing.T) {
	const head, tail = `<d:multistatus xmlns:d="DAV:">`, `</d:multistatus>`
	deep := strings.Repeat("<x>", 100) + strings.Repeat("</x>", 100)
	for name, doc := range map[string]string{
		"an error document":    `<d:error xmlns:d="DAV:"/>`,
		"a web page":           `<html><body>Log in</body></html>`,
		"another name space":   `<multistatus xmlns="DAV"/>`,
		"no name space":        `<multistatus/>`,
		"a second document":    head + tail + `<d:error xmlns:d="DAV:"/>`,
		"text behind":          head + tail + "PHP Warning",
		"a document type":      `<!DOCTYPE x [<!ENTITY a "b">]>` + head + tail,
		"an entity":            head + `<d:response><d:href>&a;</d:href></d:response>` + tail,
		"an external entity":   `<!DOCTYPE x SYSTEM "file:///etc/passwd">` + head + tail,
		"crossed elements":     head + `<d:response><d:href></d:response></d:href>` + tail,
		"a stray end":          head + tail + tail,
		"great depth":          head + `<d:response>` + deep + `</d:response>` + tail,
		"depth outside":        head + deep + tail,
		"a huge entry":         head + `<d:response>` + strings.Repeat("<d:x>123456789</d:x>", 60_000) + `</d:response>` + tail,
		"a huge comment":       head + "<!--" + strings.Repeat("x", 2<<20) + "-->" + tail,
		"a huge element name":  head + "<" + strings.Repeat("x", 2<<20) + "/>" + tail,
		"another encoding":     `<?xml version="1.0" encoding="utf-16"?>` + head + tail,
		"bytes that are none":  head + "<d:response><d:href>\xff\xfe</d:href></d:response>" + tail,
		"a control character":  head + "<d:response><d:href>a\x01</d:href></d:response>" + tail,
		"unquoted attributes":  `<d:multistatus xmlns:d=DAV:>` + tail,
		"not XML":              "207 Multi-Status",
		"binary":               "\x1f\x8b\x08\x00\x00",
		"an unclosed response": head + `<d:response>` + tail,
	} {
		if all, err := collect(doc); err == nil {
			t.Errorf("%s: accepted with %d entries", name, len(all))
		}
	}
	for name, doc := range map[string]string{"nothing": "", "blanks": " \n", "a head": `<?xml version="1.0"?>`} {
		if _, err := collect(doc); !errors.Is(err, errCut) {
			t.Errorf("%s: %v, want it to be cut", name, err)
		}
	}
}

// TestOverlong: a value that is too long spoils its own entry and no other.
func TestOverlong(t *testing.T) {
	doc := `<d:multistatus xmlns:d="DAV:"><d:response><d:href>/` + strings.Repeat("x", 100_000) + `</d:href></d:response>` +
		`<d:response><d:href>/b</d:href><d:propstat><d:prop><d:getetag>` + strings.Repeat("y", 100_000) +
		`</d:getetag></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>` +
		`<d:response><d:href>/c</d:href></d:response></d:multistatus>`
	var long []bool
	err := parseMultistatus(strings.NewReader(doc), func(r *response) error {
		long = append(long, r.overlong)
		return nil
	})
	if err != nil || fmt.Sprint(long) != "[true true false]" {
		t.Errorf("overlong %v, %v", long, err)
	}
}

// TestCallbackError ends the reading and comes back as it is.
func TestCallbackError(t *testing.T) {
	mine := errors.New("mine")
	doc := `<d:multistatus xmlns:d="DAV:"><d:response/><d:response/>`
	calls := 0
	err := parseMultistatus(strings.NewReader(doc), func(*response) error { calls++; return mine })
	if err != mine || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestParseStatus(t *testing.T) {
	for text, want := range map[string]int{
		"HTTP/1.1 200 OK": 200, " HTTP/2 207 ": 207, "HTTP/1.1 404 Not Found": 404, "": 0, "200": 0, "HTTP/1.1 x": 0,
		"HTTP/1.1 99999 x": 0, "HTTP/1.1 -1": 0,
	} {
		if got := parseStatus(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// slowReader gives a few bytes at a time.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 1+rand.IntN(7))]) }

func FuzzMultistatus(f *testing.F) {
	for _, site := range sites {
		doc := readCapture(f, site.dir+"/propfind-depth1.txt").body
		f.Add(doc)
		f.Add(doc[:len(doc)/2])
	}
	f.Add(`<d:multistatus xmlns:d="DAV:"><d:response><d:href>/a</d:href><d:status>HTTP/1.1 404 x</d:status></d:response></d:multistatus>`)
	f.Add(`<d:multistatus xmlns:d="DAV:"><d:response><d:href>/&#x2e;&#46;/a</d:href></d:response></d:multistatus>`)
	f.Fuzz(func(t *testing.T, doc string) {
		all, err := collect(doc)
		var again []string
		serr := parseMultistatus(slowReader{strings.NewReader(doc)}, func(r *response) error {
			again = append(again, r.href)
			return nil
		})
		if (err == nil) != (serr == nil) || fmt.Sprint(all) != fmt.Sprint(again) {
			t.Errorf("read at once %q, %v; in pieces %q, %v", all, err, again, serr)
		}
		if err == nil && !strings.Contains(doc, "multistatus") {
			t.Error("accepted without the element")
		}
		h := hrefs{host: "host", dir: "/dir", t: &table[0]}
		for _, href := range all {
			if name, err := h.resolve(href); err == nil && (strings.ContainsAny(name, "/\x00") || name == ".." || name == "." || len(name) > 255) {
				t.Errorf("the address %q gave the name %q", href, name)
			}
		}
	})
}

// TestPropstatStatuses: 425 shows a file in processing (oCIS), 204 a property that was
// removed (sabre).
func TestPropstatStatuses(t *testing.T) {
	for status, want := range map[int]response{
		200: {found: true, props: props{length: "5"}}, 425: {found: true, props: props{length: "5"}},
		204: {}, 404: {}, 403: {refused: 403}, 500: {refused: 500},
	} {
		doc := fmt.Sprintf(`<d:multistatus xmlns:d="DAV:"><d:response><d:propstat><d:prop><d:getcontentlength>5</d:getcontentlength></d:prop>`+
			`<d:status>HTTP/1.1 %d x</d:status></d:propstat></d:response></d:multistatus>`, status)
		err := parseMultistatus(strings.NewReader(doc), func(r *response) error {
			if *r != want {
				t.Errorf("%d: %+v, want %+v", status, *r, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkMultistatus reads a listing of 2,000 files of the least that a server writes.
func BenchmarkMultistatus(b *testing.B) {
	var doc strings.Builder
	if err := writeListing(&doc, 2000); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(doc.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if err := parseMultistatus(strings.NewReader(doc.String()), func(*response) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
