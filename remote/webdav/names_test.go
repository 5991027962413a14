package webdav

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

func TestResolve(t *testing.T) {
	row, _ := rowOf(Nextcloud)
	raw, _ := rowOf(ModDAV)
	for _, c := range []struct {
		href, name string
		err        error
	}{
		{"/base/my dir/", "", nil},
		{"/base/my%20dir", "", nil},
		{"/base/%6dy%20dir/", "", nil},
		{"//base//my%20dir//", "", nil},
		{"https://host:8443/base/my%20dir/", "", nil},
		{"http://HOST/base/my%20dir/", "", nil},
		{"/base/my%20dir/file", "file", nil},
		{"/base/my%20dir/sub/", "sub", nil},
		{"https://host:8443/base/my%20dir/a%2520b", "a%20b", nil},
		{"/base/my%20dir/%c3%a4%20%26%20%3c%23%25.txt", "ä & <#%.txt", nil},
		{"/base/my%20dir/...", "...", nil},
		{"/base/my%20dir/a+b", "a+b", nil},
		{"https://other/base/my%20dir/x", "", errHrefHost},
		{"https://host:9/base/my%20dir/x", "", errHrefHost},
		{"https://host@other/base/my%20dir/x", "", errHrefHost},
		{"//other/base/my%20dir/x", "", errHrefOutside},
		{"ftp://host:8443/base/my%20dir/x", "", errHrefForm},
		{"relative", "", errHrefForm},
		{"", "", errHrefForm},
		{"/base/my%20dir/../x", "", errNameDots},
		{"/base/my%20dir/%2e%2E", "", errNameDots},
		{"/base/my%20dir/.", "", errNameDots},
		{"/base/my%20dir/a%2fb", "", errHrefOutside},
		{"/base/my%20dir/a/b", "", errHrefOutside},
		{"/base/my%20dir2/a", "", errHrefOutside},
		{"/base/", "", errHrefOutside},
		{"/etc/passwd", "", errHrefOutside},
		{"/base/my%20dir/a%00b", "", errNameControl},
		{"/base/my%20dir/a%0ab", "", errNameControl},
		{"/base/my%20dir/a%zz", "", errHrefForm},
		{"/base/my%20dir/a?b", "", errHrefForm},
		{"/base/my%20dir/a#b", "", errHrefForm},
		{"/base/my%20dir/%ff", "", errNameUTF8},
		{"/base/my%20dir/" + strings.Repeat("n", 255), strings.Repeat("n", 255), nil},
		{"/base/my%20dir/" + strings.Repeat("n", 256), "", errNameLong},
		{"/base/my%20dir/" + strings.Repeat("%c3%a4", 5000), "", errNameLong},
	} {
		h := hrefs{host: "host:8443", dir: "/base/my dir", t: &row}
		name, err := h.resolve(c.href)
		if !errors.Is(err, c.err) || err == nil && name != c.name {
			t.Errorf("%.80q: got %q, %v, want %q, %v", c.href, name, err, c.name, c.err)
		}
	}
	h := hrefs{host: "host", dir: "", t: &raw}
	if name, err := h.resolve("/a%0ab"); name != "a\nb" || err != nil {
		t.Errorf("a newline on mod_dav: %q, %v", name, err)
	}
	if name, err := h.resolve("/"); name != "" || err != nil {
		t.Errorf("the root: %q, %v", name, err)
	}
}

func TestUnusableNames(t *testing.T) {
	for dialect, names := range map[string][]string{
		Nextcloud: {`a\b`, "tab\t", "new\nline", ".htaccess", ".HTACCESS", "x.part", "x.filepart", "cafe\u0301", "\xff"},
		OCIS:      {`a\b`, "new\nline"},
		Reva:      {"new\nline"},
		ModDAV:    {".htaccess", ".DAV", ".davfs.tmp123"},
		Rclone:    {"new\nline"},
		XRootD:    {"100%", "a?b", "new\nline"},
		Unknown:   {"new\nline"},
	} {
		row, _ := rowOf(dialect)
		for _, name := range append(names, tempName("")) {
			if row.unusable(name) == "" {
				t.Errorf("%s takes %q", dialect, name)
			}
		}
		for _, name := range []string{"a", "a b", "ä", "日本語", ".hidden", "part", "htaccess", "a#b&c"} {
			if why := row.unusable(name); why != "" {
				t.Errorf("%s refuses %q: %s", dialect, name, why)
			}
		}
	}
}

// TestHostileListing leaves out what cannot be a child, and nothing else.
func TestHostileListing(t *testing.T) {
	entry := func(href string) string {
		return "<d:response><d:href>" + href + "</d:href><d:propstat><d:prop><d:getcontentlength>1</d:getcontentlength>" +
			"<d:resourcetype/></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
	}
	bad := []string{
		"/d/..", "/d/../x", "/d/a%2Fb", "/d/a%00", "/x", "/d/sub/deep", "http://elsewhere/d/y", "/d/%zz",
		"/d/" + strings.Repeat("n", 10_000), "/d/good", "/d/goo%64",
	}
	var doc strings.Builder
	doc.WriteString(`<d:multistatus xmlns:d="DAV:">` + entry("/d/good"))
	for _, href := range bad {
		doc.WriteString(entry(href))
	}
	doc.WriteString(entry("/d/" + tempName("")))
	doc.WriteString(`<d:response><d:href>/d/vanished</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>`)
	doc.WriteString(`<d:response><d:href>/d/sizeless</d:href><d:propstat><d:prop><d:resourcetype/></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`)
	doc.WriteString(`<d:response><d:href>/d/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>`)
	doc.WriteString(entry("/d/last") + "</d:multistatus>")
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
		capture{status: 207, header: http.Header{}, body: doc.String()}.write(w)
	})
	b := s.actor(t, Unknown, "")
	all, err := listAll(t.Context(), b, "/d")
	if err != nil || len(all) != 2 || all["good"].Size != 1 || all["last"].Path != "/d/last" {
		t.Errorf("listed %v, %v", all, err)
	}
	if got, want := b.Stats().RefusedNames, int64(len(bad)+1); got != want {
		t.Errorf("%d names refused, want %d", got, want)
	}
}

// TestListingOfFile and of an answer about something else.
func TestListingErrors(t *testing.T) {
	one := func(href, props string) string {
		return `<d:multistatus xmlns:d="DAV:"><d:response><d:href>` + href + `</d:href><d:propstat><d:prop>` + props +
			`</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>`
	}
	const file, dir = `<d:getcontentlength>1</d:getcontentlength><d:resourcetype/>`, `<d:resourcetype><d:collection/></d:resourcetype>`
	for name, c := range map[string]struct {
		status int
		body   string
		kind   remote.Kind
	}{
		"of a file":          {207, one("/d", file), remote.NotDir},
		"of something else":  {207, one("/other/", dir), remote.Corrupt},
		"of nothing":         {207, `<d:multistatus xmlns:d="DAV:"/>`, remote.Corrupt},
		"cut":                {207, one("/d/", dir)[:100], remote.Unavailable},
		"as a page":          {207, "<html></html>", remote.Corrupt},
		"with 200":           {200, one("/d/", dir), remote.Corrupt},
		"with 404":           {404, "", remote.NotExist},
		"with 503":           {503, "", remote.Unavailable},
		"with an inner 507":  {207, strings.Replace(one("/d/", dir), "</d:multistatus>", `<d:response><d:href>/d/x</d:href><d:status>HTTP/1.1 507 x</d:status></d:response></d:multistatus>`, 1), remote.NoSpace},
		"whose self is 403":  {207, `<d:multistatus xmlns:d="DAV:"><d:response><d:href>/d/</d:href><d:status>HTTP/1.1 403 x</d:status></d:response></d:multistatus>`, remote.Permission},
		"whose self is bare": {207, `<d:multistatus xmlns:d="DAV:"><d:response><d:href>/d/</d:href></d:response></d:multistatus>`, remote.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
				capture{status: c.status, header: http.Header{}, body: c.body}.write(w)
			})
			_, err := listAll(t.Context(), s.actor(t, Unknown, ""), "/d")
			isKind(t, err, c.kind)
		})
	}
}
