package efss

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The columns: Nextcloud, OpenCloud, Reva, mod_dav, rclone, XRootD, generic.

var rowsVersions = []rowTest{
	{"etag in PUT reply", func(w *world) string {
		return fmt.Sprint(w.do("PUT", "/f", "x").Header.Get("Etag") != "")
	}, [7]string{"true", "true", "true", "false", "true", "false", "true"}},
	{"etag form", func(w *world) string {
		w.put("/f", "x")
		return shape(w.prop("/f", "d:getetag"))
	}, [7]string{"&quot;HEX32&quot;", `"HEX32"`, "&#34;HEX32&#34;", `W/"1-HEX13"`, `"HEX32"`, "-", `"HEX13"`}},
	{"overwrite in one second, same size", func(w *world) string {
		w.put("/f", "one")
		a := w.prop("/f", "d:getetag")
		w.put("/f", "two")
		return differ(a, w.prop("/f", "d:getetag"))
	}, [7]string{"same", "differ", "differ", "differ", "differ", "none", "differ"}},
	{"overwrite with one mtime, same size", func(w *world) string {
		w.put("/f", "one", "X-OC-Mtime", "1500000000")
		a := w.prop("/f", "d:getetag")
		w.put("/f", "two", "X-OC-Mtime", "1500000000")
		return differ(a, w.prop("/f", "d:getetag"))
	}, [7]string{"same", "same", "differ", "differ", "differ", "none", "differ"}},
	{"weak tag becomes strong", func(w *world) string {
		w.put("/f", "one")
		a := w.prop("/f", "d:getetag")
		for range 120 {
			w.opts.Now() // 1.2 s go by
		}
		b := w.prop("/f", "d:getetag")
		return fmt.Sprint(differ(a, b), " ", a == b)
	}, [7]string{"same true", "same true", "same true", "same false", "same true", "none true", "same true"}},
	{"directory etag and changes below", func(w *world) string {
		w.mkcol("/d")
		w.mkcol("/d/e")
		var out []string
		look := func(what string, change func()) {
			deep, direct := w.prop("/d", "d:getetag"), w.prop("/d/e", "d:getetag")
			change()
			out = append(out, what+" "+differ(deep, w.prop("/d", "d:getetag"))+" "+differ(direct, w.prop("/d/e", "d:getetag")))
		}
		look("new", func() { w.put("/d/e/f", "one") })
		look("over", func() { w.put("/d/e/f", "two") })
		look("mkcol", func() { w.mkcol("/d/e/sub") })
		look("rename", func() { w.do("MOVE", "/d/e/f", "", "Destination", w.dest("/d/e/g"), "Overwrite", "F") })
		look("move", func() { w.do("MOVE", "/d/e/g", "", "Destination", w.dest("/g"), "Overwrite", "F") })
		look("delete", func() { w.do("DELETE", "/d/e/sub", "") })
		return strings.Join(out, ", ")
	}, [7]string{
		"new differ differ, over differ differ, mkcol differ differ, rename differ differ, move differ differ, delete differ differ",
		"new differ differ, over differ differ, mkcol differ differ, rename differ differ, move differ differ, delete differ differ",
		"new same same, over same same, mkcol same differ, rename same same, move same differ, delete same differ",
		"new same differ, over same differ, mkcol same differ, rename same differ, move same differ, delete same differ",
		"new none none, over none none, mkcol none none, rename none none, move none none, delete none none",
		"new none none, over none none, mkcol none none, rename none none, move none none, delete none none",
		"new same differ, over same same, mkcol same differ, rename same differ, move same differ, delete same differ",
	}},
	{"dead property and directory etag", func(w *world) string {
		w.mkcol("/d")
		w.put("/d/f", "x")
		a, b := w.prop("/d", "d:getetag"), w.prop("/d/f", "d:getetag")
		status := propStatus(w.do("PROPPATCH", "/d/f", setProp("x:p", "v")))
		return fmt.Sprint(status, " ", w.prop("/d/f", "x:p"), " ", differ(a, w.prop("/d", "d:getetag")), " ", differ(b, w.prop("/d/f", "d:getetag")))
	}, [7]string{"200 v same same", "200 v same same", "200 v same same", "200 v same same", "403 - none same", "400 - none none", "200 v same same"}},
	{"mtime sent with PUT", func(w *world) string {
		a := w.do("PUT", "/f", "x", "X-OC-Mtime", "1500000000.7")
		return a.Header.Get("X-Oc-Mtime") + " " + w.prop("/f", "d:getlastmodified")[12:16]
	}, [7]string{"accepted 2017", "accepted 2017", "accepted 2026", " 2026", " 2026", " 2026", " 2026"}},
	{"mtime too small", func(w *world) string { return w.codes(step{"PUT", "/f", h("X-OC-Mtime", "86400"), "x"}) },
		[7]string{"500", "201", "201", "201", "201", "200", "201"}},
	{"third PUT with one mtime", func(w *world) string {
		s := step{"PUT", "/f", h("X-OC-Mtime", "1500000000"), "x"}
		return w.codes(s, s, s)
	}, [7]string{"201 204 204", "201 204 500", "201 204 204", "201 204 204", "201 201 201", "200 200 200", "201 204 204"}},
	{"mtime set later", func(w *world) string {
		w.put("/f", "x")
		a := w.prop("/f", "d:getetag")
		status := propStatus(w.do("PROPPATCH", "/f", setProp("d:lastmodified", "1500000000")))
		return fmt.Sprint(status, " ", w.prop("/f", "d:getlastmodified")[12:16], " ", differ(a, w.prop("/f", "d:getetag")))
	}, [7]string{"200 2017 differ", "200 2026 same", "200 2026 same", "200 2026 same", "403 2026 same", "400 2026 none", "200 2026 same"}},
	{"mtime of the parent of an old file", func(w *world) string {
		w.mkcol("/d")
		w.put("/d/f", "x", "X-OC-Mtime", "1500000000")
		return w.prop("/d", "d:getlastmodified")[12:16]
	}, same("2026")},
	{"checksums", func(w *world) string {
		a := w.codes(step{"PUT", "/f", h("OC-Checksum", "SHA1:0000000000000000000000000000000000000000"), "x"},
			step{"PUT", "/g", h("OC-Checksum", "SHA1:11f6ad8ec52a2984abaafd7c3b516503785c2072"), "x"}, step{"PUT", "/h", nil, "x"})
		return a + " " + fmt.Sprint(len(regexp.MustCompile(`[A-Z0-9]+:[0-9a-f]{8,}`).FindAllString(w.prop("/g", "oc:checksums"), -1)), w.prop("/h", "oc:checksums") != "-")
	}, [7]string{"201 201 201 1 false", "400 201 201 3 true", "201 201 201 0 false", "201 201 201 0 false", "201 201 201 0 false", "200 200 200 0 false", "201 201 201 0 false"}},
}

var rowsReading = []rowTest{
	{"Depth", func(w *world) string {
		w.mkcol("/d")
		w.mkcol("/d/e")
		w.put("/d/e/f", "x")
		var out []string
		for _, depth := range []string{"0", "1", "infinity", ""} {
			a := w.do("PROPFIND", "/d", "", "Depth", depth)
			if n := regexp.MustCompile(`</[dD]:response>`).FindAllString(a.body, -1); a.StatusCode == http.StatusMultiStatus {
				out = append(out, fmt.Sprint(len(n)))
			} else {
				out = append(out, fmt.Sprint(a.StatusCode))
			}
		}
		return strings.Join(out, " ")
	}, [7]string{"1 2 3 2", "1 2 400 2", "1 2 3 2", "1 2 403 403", "1 2 3 3", "1 2 1 1", "1 2 3 3"}},
	{"listing is never conditional", func(w *world) string {
		return w.codes(step{"PROPFIND", "/", h("Depth", "1", "If-None-Match", "*"), ""})
	}, same("207")},
	{"ranges", func(w *world) string {
		w.put("/f", "0123456789")
		w.put("/empty", "")
		var out []string
		for _, r := range []string{"2-3", "7-", "-2", "20-30"} {
			a := w.do("GET", "/f", "", "Range", "bytes="+r)
			got := fmt.Sprint(a.StatusCode, " ", a.Header.Get("Content-Range"))
			if a.StatusCode == http.StatusPartialContent {
				got += fmt.Sprint(" ", len(a.body))
			}
			out = append(out, strings.TrimSpace(got))
		}
		return strings.Join(out, ", ")
	}, [7]string{
		"206 bytes 2-3/10 2, 206 bytes 7-9/10 3, 206 bytes 8-9/10 2, 416",
		"206 bytes 2-3/10 2, 206 bytes 7-9/10 3, 206 bytes 8-9/10 2, 416 bytes */10",
		"416, 416, 416, 416",
		"206 bytes 2-3/10 2, 206 bytes 7-9/10 3, 206 bytes 8-9/10 2, 416",
		"206 bytes 2-3/10 2, 206 bytes 7-9/10 3, 206 bytes 8-9/10 2, 416 bytes */10",
		"206 bytes 2-3/10 2, 206 bytes 7--1/10 0, 206 bytes 0--1/10 0, 206 bytes 10--1/10 0",
		"206 bytes 2-3/10 2, 206 bytes 7-9/10 3, 206 bytes 8-9/10 2, 416 bytes */10",
	}},
	{"several ranges", func(w *world) string {
		w.put("/f", "0123456789")
		a := w.do("GET", "/f", "", "Range", "bytes=0-1,4-5")
		typ, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
		return fmt.Sprint(a.StatusCode, " ", typ)
	}, [7]string{"200 application/octet-stream", "206 multipart/byteranges", "416 ", "206 multipart/byteranges",
		"206 multipart/byteranges", "206 application/octet-stream", "206 multipart/byteranges"}},
	{"If-Range with another tag", func(w *world) string {
		w.put("/f", "0123456789")
		return w.codes(step{"GET", "/f", h("Range", "bytes=0-1", "If-Range", `"other"`), ""})
	}, [7]string{"200", "206", "416", "200", "200", "206", "200"}},
	{"range of an empty file", func(w *world) string {
		w.put("/f", "")
		return w.codes(step{"GET", "/f", h("Range", "bytes=0-"), ""})
	}, [7]string{"200", "416", "416", "200", "416", "206", "416"}},
	{"GET of a collection", func(w *world) string {
		w.mkcol("/d")
		return w.codes(step{"GET", "/d", nil, ""})
	}, [7]string{"200", "200", "501", "404", "405", "200", "405"}},
	{"GET conditions", func(w *world) string {
		w.put("/f", "x")
		for range 120 {
			w.opts.Now()
		}
		tag := strings.NewReplacer("&quot;", `"`, "&#34;", `"`).Replace(w.prop("/f", "d:getetag"))
		return w.codes(step{"GET", "/f", h("If-None-Match", tag), ""}, step{"GET", "/f", h("If-Match", `"other"`), ""}, step{"GET", "/f", h("If-Match", tag), ""})
	}, [7]string{"304 412 200", "200 200 200", "200 200 200", "304 412 200", "304 412 200", "200 200 200", "304 412 200"}},
}

var rowsConditions = []rowTest{
	{"PUT If-Match", func(w *world) string {
		w.put("/f", "x")
		for range 120 {
			w.opts.Now()
		}
		tag := strings.NewReplacer("&quot;", `"`, "&#34;", `"`).Replace(w.prop("/f", "d:getetag"))
		return w.codes(step{"PUT", "/f", h("If-Match", `"other"`), "y"}, step{"PUT", "/g", h("If-Match", `*`), "y"}, step{"PUT", "/f", h("If-Match", tag), "z"})
	}, [7]string{"412 412 204", "409 409 204", "412 201 204", "412 412 204", "201 201 201", "200 200 200", "412 412 204"}},
	{"PUT If-Match with a fresh tag", func(w *world) string {
		w.put("/f", "x")
		tag := strings.NewReplacer("&quot;", `"`, "&#34;", `"`).Replace(w.prop("/f", "d:getetag"))
		return w.codes(step{"PUT", "/f", h("If-Match", tag), "z"})
	}, [7]string{"204", "204", "204", "412", "201", "200", "204"}},
	{"PUT If-None-Match", func(w *world) string {
		s := step{"PUT", "/f", h("If-None-Match", "*"), "y"}
		return w.codes(s, s)
	}, [7]string{"201 412", "201 204", "201 204", "201 412", "201 201", "200 200", "201 412"}},
	{"MOVE and DELETE If-Match", func(w *world) string {
		w.put("/f", "x")
		return w.codes(step{"MOVE", "/f", h("If-Match", `"other"`, "Destination", "@/g", "Overwrite", "T"), ""},
			step{"PUT", "/f", nil, "x"}, step{"DELETE", "/f", h("If-Match", `"other"`), ""})
	}, [7]string{"412 204 412", "201 201 204", "201 201 204", "412 204 412", "201 201 204", "201 200 204", "412 204 412"}},
	{"If with an entity tag", func(w *world) string {
		w.put("/f", "x")
		for range 120 {
			w.opts.Now()
		}
		tag := strings.NewReplacer("&quot;", `"`, "&#34;", `"`).Replace(w.prop("/f", "d:getetag"))
		return w.codes(step{"PUT", "/f", h("If", `(["other"])`), "y"}, step{"PUT", "/f", h("If", "(["+tag+"])"), "y"},
			step{"MOVE", "/f", h("Destination", "@/g", "Overwrite", "F", "If", `<@/h> (["other"])`), ""})
	}, [7]string{"412 204 412", "204 204 201", "204 204 201", "412 204 412", "412 412 412", "200 200 201", "412 204 412"}},
}

var rowsWriting = []rowTest{
	{"PUT new and again", func(w *world) string { return w.codes(step{"PUT", "/f", nil, "x"}, step{"PUT", "/f", nil, "x"}) },
		[7]string{"201 204", "201 204", "201 204", "201 204", "201 201", "200 200", "201 204"}},
	{"PUT without parent, onto a collection", func(w *world) string {
		w.mkcol("/d")
		return w.codes(step{"PUT", "/no/f", nil, "x"}, step{"PUT", "/d", nil, "x"}, step{"GET", "/no/f", nil, ""})
	}, [7]string{"404 409 404", "409 409 404", "500 409 404", "409 409 404", "404 404 404", "200 409 200", "409 405 404"}},
	{"PUT with parents", func(w *world) string {
		return w.codes(step{"PUT", "/no/f", h("X-NC-WebDAV-Auto-Mkcol", "1"), "x"})
	}, [7]string{"201", "409", "500", "409", "404", "200", "409"}},
	{"PUT of unknown length", func(w *world) string {
		return w.codes(step{"PUT", "/f", h("Transfer-Encoding", "chunked"), "abc"}) + " " + w.read("/f")
	}, [7]string{"201 200 abc", "400 404", "400 404", "201 200 abc", "201 200 abc", "400 404", "201 200 abc"}},
	{"PUT of a part", func(w *world) string {
		w.put("/f", "0123456789")
		return w.codes(step{"PUT", "/f", h("Content-Range", "bytes 2-3/10"), "xy"}) + " " + w.read("/f")
	}, [7]string{"400 200 0123456789", "501 200 0123456789", "501 200 0123456789", "204 200 01xy456789", "201 200 xy", "200 200 xy", "400 200 0123456789"}},
	{"client dies while it overwrites", func(w *world) string {
		w.put("/f", "old content")
		return w.dead("/f")
	}, [7]string{"423, 200 ne", "200 old content, 200 old content", "200 old content, 200 ne", "200 old content, 200 old content", "200 ne, 200 ne", "200 ne, 200 ne", "200 ne, 200 ne"}},
	{"client dies while it creates", func(w *world) string { return w.dead("/f") },
		[7]string{"404, 404", "404, 404", "404, 200 ne", "404, 404", "200 ne, 200 ne", "200 ne, 200 ne", "200 ne, 200 ne"}},
	{"MKCOL again, without parent", func(w *world) string {
		return w.codes(step{"MKCOL", "/d", nil, ""}, step{"MKCOL", "/d", nil, ""}, step{"MKCOL", "/no/d", nil, ""})
	}, [7]string{"201 405 409", "201 405 409", "201 405 409", "201 405 409", "201 201 409", "201 201 201", "201 405 409"}},
	{"names", func(w *world) string {
		return w.codes(step{"PUT", "/a%5Cb", nil, "x"}, step{"PUT", "/a%09b", nil, "x"}, step{"PUT", "/x.part", nil, "x"},
			step{"PUT", "/" + strings.Repeat("n", 251), nil, "x"}, step{"PUT", "/" + strings.Repeat("n", 256), nil, "x"}, step{"PUT", "/.htaccess", nil, "x"})
	}, [7]string{"400 400 400 400 400 500", "400 201 201 201 400 201", "201 201 201 201 400 201", "201 201 201 201 400 201", "201 201 201 201 400 201", "200 200 200 200 400 200", "201 201 201 201 400 201"}},
	{"name with a newline", func(w *world) string {
		s := w.codes(step{"PUT", "/a%0Ab", nil, "x"})
		a := w.do("PROPFIND", "/", "", "Depth", "1")
		_, err := parseXML(a.body)
		return fmt.Sprint(s, " ", err == nil)
	}, [7]string{"400 true", "400 true", "201 false", "201 true", "201 false", "200 true", "201 true"}},
	{"decomposed name", func(w *world) string {
		w.put("/u\u0308", "x")
		return fmt.Sprint(fileExists(filepath.Join(w.Disk(w.user), "\u00fc")), " ", w.read("/u\u0308"))
	}, [7]string{"true 200 x", "false 200 x", "false 200 x", "false 200 x", "false 200 x", "false 200 x", "false 200 x"}},
	{"name with an escape", func(w *world) string {
		w.put("/a%2525b", "x")
		return fmt.Sprint(fileExists(filepath.Join(w.Disk(w.user), "a%25b")))
	}, [7]string{"true", "true", "true", "true", "true", "false", "true"}},
	{"locks", func(w *world) string {
		w.mkcol("/d")
		w.put("/d/f", "x")
		a := w.do("LOCK", "/d/f", lockDoc, "Timeout", "Second-60")
		token := a.Header.Get("Lock-Token")
		out := fmt.Sprint(a.StatusCode, " ", w.codes(step{"PUT", "/d/f", nil, "y"}, step{"PUT", "/d/f", h("If", "("+token+")"), "y"}))
		w.do("UNLOCK", "/d/f", "", "Lock-Token", token)
		b := w.do("LOCK", "/d", lockDoc, "Timeout", "Second-60")
		return out + ", " + fmt.Sprint(b.StatusCode, " ", w.codes(step{"PUT", "/d/f", nil, "y"}))
	}, [7]string{"200 423 204, 200 204", "200 423 423, 200 204", "200 204 204, 200 204", "200 423 204, 200 423", "200 423 201, 200 423", "400 200 200, 400 200", "200 423 204, 200 423"}},
	{"lock of a missing name", func(w *world) string {
		return fmt.Sprint(w.do("LOCK", "/none", lockDoc).StatusCode, " ", w.read("/none"))
	}, [7]string{"201 200 ", "500 404", "200 404", "200 404", "201 200 ", "400 404", "201 200 "}},
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var rowsMoving = []rowTest{
	{"Overwrite", func(w *world) string {
		w.put("/a", "a")
		w.put("/b", "b")
		move := func(header ...string) step {
			return step{"MOVE", "/a", append(h("Destination", "@/b"), header...), ""}
		}
		put := step{"PUT", "/a", nil, "a"}
		return w.codes(move("Overwrite", "F"), put, move("Overwrite", "T"), put, move())
	}, [7]string{"412 204 204 201 204", "412 204 204 201 204", "412 204 204 201 204", "412 204 204 201 204",
		"412 201 204 201 412", "204 200 204 200 204", "412 204 204 201 204"}},
	{"MOVE keeps", func(w *world) string {
		w.put("/a", "a")
		etag, id, mtime := w.prop("/a", "d:getetag"), w.prop("/a", "oc:fileid"), w.prop("/a", "d:getlastmodified")
		for range 300 {
			w.opts.Now()
		}
		w.want(http.StatusCreated, "MOVE", "/a", "", "Destination", w.dest("/b"), "Overwrite", "F")
		return "etag " + differ(etag, w.prop("/b", "d:getetag")) + ", id " +
			differ(id, w.prop("/b", "oc:fileid")) + ", mtime " + differ(mtime, w.prop("/b", "d:getlastmodified"))
	}, [7]string{"etag same, id same, mtime same", "etag same, id same, mtime same", "etag same, id differ, mtime same",
		"etag same, id none, mtime same", "etag same, id none, mtime same", "etag none, id none, mtime same", "etag same, id none, mtime same"}},
	{"id after a MOVE onto a file", func(w *world) string {
		w.put("/a", "a")
		w.put("/b", "b")
		from := w.prop("/a", "oc:fileid")
		w.want(http.StatusNoContent, "MOVE", "/a", "", "Destination", w.dest("/b"), "Overwrite", "T")
		return differ(from, w.prop("/b", "oc:fileid"))
	}, [7]string{"same", "same", "differ", "none", "none", "none", "none"}},
	{"MOVE onto a full directory", func(w *world) string {
		w.mkcol("/a")
		w.mkcol("/b")
		w.put("/b/f", "x")
		return w.codes(step{"MOVE", "/a", h("Destination", "@/b", "Overwrite", "T"), ""}, step{"GET", "/b/f", nil, ""})
	}, [7]string{"204 404", "204 404", "204 404", "204 404", "204 404", "500 200", "204 404"}},
	{"MOVE without parent, with a path", func(w *world) string {
		w.put("/a", "a")
		path := strings.TrimPrefix(w.dest("/b"), w.BaseURL)
		return w.codes(step{"MOVE", "/a", h("Destination", path, "Overwrite", "F"), ""}, step{"PUT", "/a", nil, "a"},
			step{"MOVE", "/a", h("Destination", "@/no/b", "Overwrite", "F"), ""})
	}, [7]string{"201 201 409", "201 201 409", "201 201 409", "400 204 500", "201 201 403", "501 200 201", "201 201 409"}},
	{"COPY", func(w *world) string {
		w.mkcol("/d")
		w.put("/d/f", "x")
		for range 300 {
			w.opts.Now()
		}
		out := w.codes(step{"COPY", "/d/f", h("Destination", "@/g", "Overwrite", "F"), ""}, step{"COPY", "/d", h("Destination", "@/e", "Overwrite", "F", "Depth", "0"), ""})
		if !strings.HasPrefix(out, "201") {
			return out
		}
		return out + " etag " + differ(w.prop("/d/f", "d:getetag"), w.prop("/g", "d:getetag")) + ", mtime " +
			differ(w.prop("/d/f", "d:getlastmodified"), w.prop("/g", "d:getlastmodified")) + ", below " + w.codes(step{"GET", "/e/f", nil, ""})
	}, [7]string{"201 201 etag same, mtime same, below 200", "201 201 etag differ, mtime differ, below 404", "500 500",
		"201 201 etag differ, mtime differ, below 404", "201 201 etag same, mtime differ, below 404", "400 400", "201 201 etag differ, mtime differ, below 404"}},
	{"directory into itself", func(w *world) string {
		w.mkcol("/d")
		return fmt.Sprint(w.do("MOVE", "/d", "", "Destination", w.dest("/d/e"), "Overwrite", "F").StatusCode/100) + " " + w.codes(step{"PROPFIND", "/d", h("Depth", "0"), ""})
	}, [7]string{"4 207", "4 207", "4 207", "4 207", "4 207", "4 207", "4 207"}},
	{"dead property moves along", func(w *world) string {
		w.put("/a", "a")
		w.do("PROPPATCH", "/a", setProp("x:p", "v"))
		w.want(http.StatusCreated, "MOVE", "/a", "", "Destination", w.dest("/b"), "Overwrite", "F")
		return w.prop("/b", "x:p")
	}, [7]string{"v", "v", "v", "v", "-", "-", "v"}},
	{"delete of nothing, twice", func(w *world) string {
		w.put("/a", "a")
		return w.codes(step{"DELETE", "/a", nil, ""}, step{"DELETE", "/a", nil, ""})
	}, same("204 404")},
}
