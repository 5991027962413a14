package webdav

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// sameTokens holds the scanner against encoding/xml: the same tokens, an end where it
// ends and an error where it finds one. It returns how many tokens there were.
func sameTokens(t *testing.T, doc string) (n int) {
	t.Helper()
	theirs, ours := xml.NewDecoder(strings.NewReader(doc)), newScanner(slowReader{strings.NewReader(doc)})
	for ; ; n++ {
		want, werr := theirs.Token()
		var got token
		err := ours.token(&got)
		if _, directive := want.(xml.Directive); directive || errors.Is(err, errNotStatus) {
			if werr == nil && !directive || !errors.Is(err, errNotStatus) {
				t.Fatalf("%q: %v for %#v, %v", doc, err, want, werr)
			}
			return n
		}
		if werr != nil {
			if (werr == io.EOF) != (err == io.EOF) || err == nil {
				t.Fatalf("%q: %d tokens, then %v, want %v", doc, n, err, werr)
			}
			if strings.Contains(werr.Error(), "unexpected EOF") && !errors.Is(err, errCut) {
				t.Fatalf("%q: %v, want %v", doc, err, werr)
			}
			return n
		}
		if err != nil {
			t.Fatalf("%q: token %d: %v, want %#v", doc, n, err, want)
		}
		sameToken(t, doc, got, want)
	}
}

// sameToken compares one token.
func sameToken(t *testing.T, doc string, got token, want xml.Token) {
	t.Helper()
	same := false
	switch w := want.(type) {
	case xml.StartElement:
		same = got.kind == tokenStart && got.name == w.Name
	case xml.EndElement:
		same = got.kind == tokenEnd && got.name == w.Name
	case xml.CharData:
		same = got.kind == tokenText && string(got.text) == string(w)
	case xml.Comment, xml.ProcInst:
		same = got.kind == tokenOther
	}
	if !same {
		t.Fatalf("%q: kind %d of %+v (text %q), want %#v", doc, got.kind, got.name, got.text, want)
	}
}

// forms are documents that touch each rule of the scanner, well-formed and not.
var forms = []string{
	``, ` `, `a`, `<`, `</`, `<a`, `<a>`, `<a/>`, `<a/ >`, `<a />`, `<a></a>`, `<a></a >`, `<a></a b>`, `<a></b>`, `</a>`, `<a/></a>`,
	`<a><b/>x<c>y</c></a>z<d/>`, `<a b="c" d='e'/>`, `<a b = "c"/>`, `<a b="c"d="e"/>`, `<a b/>`, `<a b=c/>`, `<a b="c/>`, `<a b="<"/>`,
	`<a b=">"/>`, `<a b="]]>'"/>`, `<a b='"'/>`, `<a b="&lt;&#10;"/>`, "<a b=\"\r\n\"/>", `< a/>`, `<1/>`, `<a:b/>`, `<:a/>`, `<a:/>`, `<a:b:c/>`,
	`<ä/>`, `<aä/>`, "<a\xff/>", `<a.b-c_1/>`, `<-a/>`, `<a"/>`, `<é:b xmlns:é="x"/>`,
	`<p:a xmlns:p="N"><p:b/><q:c/></p:a><p:d/>`, `<a xmlns="N"><b xmlns=""/><c/></a><d/>`, `<a xmlns:p="1"><a xmlns:p="2"><p:b/></a><p:b/></a>`,
	`<a xmlns:p="1" xmlns:p="2"><p:b/></a>`, `<xml:a/>`, `<xmlns:a xmlns:xmlns="N"/>`, `<xmlns xmlns="N"/>`, `<p:a xmlns:p="N" xmlns:q="N"></q:a>`, `<a xmlns:p=""><p:b/></a>`,
	`<?xml version="1.0"?><a/>`, `<?xml version="1.1"?>`, `<?xml version='1.0' encoding="Utf-8"?>`, `<?xml encoding="latin1"?>`, `<?x ?>`, `<?x?>`, `<?x`, `<?x?`, `<?>`, `<??>`, `<? x?>`, `<?x y??>`,
	`<!---->`, `<!-- a -->`, `<!-->-->`, `<!--->-->`, `<!-- a -- -->`, `<!--a--->`, `<!-`, `<!-a`, `<!--`, `<!--a--`, `<!`, `<!DOCTYPE a>`, "<!--\xff\x01-->",
	`<a><![CDATA[]]></a>`, `<a><![CDATA[<&>]]]></a>`, `<![CDATA[x`, `<![CDATA[x]]`, `<![CDATA`, `<![CDATB[`, "<![CDATA[\r\n\r]]>", "<![CDATA[\x01]]>", "<![CDATA[\xff]]>",
	`]]>`, `a]]>`, `]]&gt;`, `&#93;]>`, `]&#93;>`, `&#93;]]>`, "]\r]>", `]>`, `>`, `"'`, "\r\n\r\r\n", "\r", "a\r<b/>",
	`&lt;&gt;&amp;&apos;&quot;`, `&nbsp;`, `&lt`, `&lt `, `&;`, `&`, `& `, `&#65;&#x41;&#x4a;&#X41;`, `&#65`, `&#`, `&#;`, `&#x;`, `&#x`, `&#0;`, `&#1;`, `&#9;`, `&#xD800;`, `&#xFFFE;`,
	`&#x10FFFF;`, `&#x110000;`, `&#99999999999999999999;`, `&#-1;`, `&#+1;`, `&#1_0;`, `&#x_1;`, `&` + "#" + strings.Repeat("0", 100) + `65;`, `&a#;`, `&##65;`, "&\xc3\xa4;",
	"\x00", "\x7f", "\xff", "\xc3", "\xef\xbb\xbf<a/>", "\xed\xa0\x80", "\xef\xbf\xbe", "\xef\xbf\xbd", "ä€𝄞",
}

func TestScanForms(t *testing.T) {
	for _, doc := range forms {
		sameTokens(t, doc)
		sameTokens(t, "<r>"+doc+"</r>")
	}
}

// TestScanCaptures reads what real servers have sent.
func TestScanCaptures(t *testing.T) {
	for _, site := range sites {
		doc := readCapture(t, site.dir+"/propfind-depth1.txt").body
		if n := sameTokens(t, doc); n < 50 {
			t.Errorf("%s: only %d tokens", site.dialect, n)
		}
	}
}

// TestScanSpreads puts each form across the edge of the scanner's buffer.
func TestScanSpreads(t *testing.T) {
	for _, doc := range forms {
		for _, pad := range []int{1, len(doc) / 2, len(doc)} {
			text := strings.Repeat(" ", scanBuffer-pad) + doc
			var a, b token
			whole, pieces := newScanner(strings.NewReader(text)), newScanner(slowReader{strings.NewReader(text)})
			for {
				err, perr := whole.token(&a), pieces.token(&b)
				if (err == nil) != (perr == nil) || a.kind != b.kind || a.name != b.name || err == nil && a.kind == tokenText && string(a.text) != string(b.text) {
					t.Fatalf("%q: at once kind %d of %+v, %v; in pieces kind %d of %+v, %v", doc, a.kind, a.name, err, b.kind, b.name, perr)
				}
				if err != nil {
					break
				}
			}
		}
	}
}

// TestScanNames: more names than are remembered are still names.
func TestScanNames(t *testing.T) {
	var doc strings.Builder
	for range 3 * maxNames {
		doc.WriteString("<n" + strings.Repeat("x", doc.Len()%40) + string(rune('a'+doc.Len()%26)) + "/>")
	}
	sameTokens(t, doc.String())
}

// stuckReader never gives anything.
type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestScanStuck(t *testing.T) {
	var tok token
	if err := newScanner(stuckReader{}).token(&tok); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
}

func FuzzScan(f *testing.F) {
	for _, doc := range forms {
		f.Add(doc)
	}
	for _, site := range sites {
		f.Add(readCapture(f, site.dir+"/propfind-depth1.txt").body)
	}
	f.Fuzz(func(t *testing.T, doc string) { sameTokens(t, doc) })
}
