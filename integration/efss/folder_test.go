package efss

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recordedBody reads the body of a recorded answer.
func recordedBody(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "captures", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// zipOf reads a zip.
func zipOf(t *testing.T, body string) *zip.Reader {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestZipStream writes the recorded zip again, byte for byte.
func TestZipStream(t *testing.T) {
	want := recordedBody(t, "nextcloud-34/folder-as-zip.body.zip")
	var got bytes.Buffer
	z := &zipStream{w: &got}
	for _, f := range zipOf(t, string(want)).File {
		if strings.HasSuffix(f.Name, "/") {
			if err := z.dir(f.Name, f.Modified); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(z.file(f.Name, f.Modified, r), r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.end(); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%v; ours %x", err, got.Bytes())
	}
}

// plantFolder makes a folder like the recorded one.
func plantFolder(w *world) {
	w.t.Helper()
	w.want(http.StatusCreated, "MKCOL", "/cap3", "")
	for _, name := range []string{"f1", "f2", "f3"} {
		w.want(http.StatusCreated, "PUT", "/cap3/"+name, strings.Repeat(name[1:], 3000))
	}
	w.want(http.StatusCreated, "MKCOL", "/cap3/sub", "")
	w.want(http.StatusCreated, "PUT", "/cap3/sub/g", "g\n")
}

// TestFolderAsZip compares a folder with the recorded one.
func TestFolderAsZip(t *testing.T) {
	w := start(t, Nextcloud)
	plantFolder(w)
	got := w.want(http.StatusOK, "GET", "/cap3", "", "Accept", "text/html, application/zip")
	head := strings.TrimSpace(string(recordedBody(t, "nextcloud-34/folder-as-zip.headers.txt")))
	_, head, _ = strings.Cut(head, "\n")
	rec := capture{status: http.StatusOK, header: http.Header(readHeader(t, head)), body: "x"}
	rec.body = got.body
	rec.compare(t, "folder-as-zip", got)
	var names []string
	for _, f := range zipOf(t, got.body).File {
		names = append(names, f.Name)
		if f.Method != zip.Store {
			t.Errorf("%s is compressed", f.Name)
		}
	}
	if want := []string{"cap3/", "cap3/f1", "cap3/f2", "cap3/f3", "cap3/sub/", "cap3/sub/g"}; !slices.Equal(names, want) {
		t.Errorf("members are %v, want %v", names, want)
	}
	w.want(http.StatusOK, "GET", "/cap3?accept=zip", "")
	w.want(http.StatusNotFound, "GET", "/cap3", "", "Accept", "application/zip", "X-NC-Files", `["f1"]`)
	old := start(t, Nextcloud, func(o *Options) { o.NoFolders = true })
	plantFolder(old)
	for _, w := range []*world{w, old} { // without the header, or on an old server, it is a page
		accept := map[*world]string{w: "*/*", old: "application/zip"}[w]
		if got := w.want(http.StatusOK, "GET", "/cap3", "", "Accept", accept); !strings.HasPrefix(got.body, "<!DOCTYPE html>") {
			t.Errorf("%q", got.body)
		}
	}
}

// TestFolderBusy: a file that is being written ends the zip, with an error inside.
func TestFolderBusy(t *testing.T) {
	w := start(t, Nextcloud)
	plantFolder(w)
	free, ok := w.busy.write(w.user, "/cap3/f2", true)
	if !ok {
		t.Fatal("not free")
	}
	defer free()
	got := w.want(http.StatusOK, "GET", "/cap3", "", "Accept", "application/zip")
	if _, err := zip.NewReader(strings.NewReader(got.body), int64(len(got.body))); err == nil || !strings.HasSuffix(got.body, "</d:error>\n") ||
		!strings.Contains(got.body, "FileLocked") || strings.Count(got.body, "1") < 3000 {
		t.Errorf("%.200q", got.body)
	}
}

// TestFolderAsTar compares the broken tar with the recorded one.
func TestFolderAsTar(t *testing.T) {
	w := start(t, Nextcloud)
	plantFolder(w)
	want := recordedBody(t, "nextcloud-34/folder-as-tar.body.tar")
	e, err := tar.NewReader(bytes.NewReader(want)).Next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.setMTime(w.user, "/cap3", e.ModTime); err != nil {
		t.Fatal(err)
	}
	got := w.want(http.StatusOK, "GET", "/cap3", "", "Accept", "application/x-tar")
	if body := []byte(got.body); !bytes.Equal(bytes.TrimSpace(body), bytes.TrimSpace(want)) {
		t.Errorf("ours %q\nrecorded %q", body, want)
	}
	rec := readCapture(t, "nextcloud-34", "folder-as-tar")
	rec.body, got.body = "x", "x"
	shown := rec.header["Content-Disposition"][0]
	rec.header["Content-Disposition"] = []string{strings.ReplaceAll(shown, "cap2", "cap3")}
	rec.compare(t, "folder-as-tar", got)
}

// TestArchiver compares OpenCloud's archive of a folder with the recorded one, and lets it
// be cut at its limits.
func TestArchiver(t *testing.T) {
	w := start(t, OpenCloud)
	w.want(http.StatusCreated, "MKCOL", "/cap2", "")
	w.want(http.StatusCreated, "PUT", "/cap2/t.bin", "new content", "X-OC-Mtime", "1500000000")
	ask := func(w *world, path string) answer {
		e, err := w.store.lookup(w.user, path)
		if err != nil {
			t.Fatal(err)
		}
		id := (&request{s: w.Server, user: w.user}).fileID(e)
		return w.want(http.StatusOK, "GET", "//archiver?id="+url.QueryEscape(id)+"&output-format=tar", "")
	}
	got := ask(w, "/cap2")
	want := recordedBody(t, "opencloud/archiver.body.tar")
	if ours := []byte(got.body); len(ours) != len(want) || !bytes.Equal(ours[512:], want[512:]) || !bytes.Equal(ours[:136], want[:136]) {
		t.Errorf("ours %q\nrecorded %q", ours, want) // up to the time of the folder
	}
	rec := readCapture(t, "opencloud", "archiver-tar")
	rec.body, got.body = "x", "x"
	rec.compare(t, "archiver-tar", got)
	w.want(http.StatusBadRequest, "GET", "//archiver", "")
	w.want(http.StatusNotFound, "GET", "//archiver?id=none", "")
	start(t, Nextcloud).want(http.StatusNotFound, "GET", "//archiver?id=none", "")

	small := start(t, OpenCloud, func(o *Options) { o.ArchiveFiles, o.ArchiveBytes = 3, 5000 })
	plantFolder(small)
	var names []string
	for r := tar.NewReader(strings.NewReader(ask(small, "/cap3").body)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if !slices.Equal(names, []string{"cap3", "cap3/f1"}) {
		t.Errorf("members are %v", names)
	}
}

// TestArchiverDocument: the capabilities say of the archiver what the recorded ones say.
func TestArchiverDocument(t *testing.T) {
	const want = `"archivers":[{"archiver_url":"/archiver","enabled":true,"formats":["tar","zip"],` +
		`"max_num_files":"10000","max_size":"1073741824","version":"2.0.0"}]`
	got := start(t, OpenCloud).want(http.StatusOK, "GET", "//ocs/v2.php/cloud/capabilities?format=json", "", "OCS-APIRequest", "true")
	if !strings.Contains(got.body, want) {
		t.Errorf("ours %s", got.body)
	}
}

// TestFolderTools reads folders with curl and Python.
func TestFolderTools(t *testing.T) {
	dir := t.TempDir()
	nc, oc := start(t, Nextcloud), start(t, OpenCloud)
	for _, w := range []*world{nc, oc} {
		plantFolder(w)
	}
	runTool(t, dir, nil, "curl", "-sSf", "-u", nc.user+":"+nc.app, "-H", "Accept: application/zip", "-o", "a.zip", nc.dest("/cap3"))
	root, err := oc.store.lookup(oc.user, "/cap3")
	if err != nil {
		t.Fatal(err)
	}
	id := url.QueryEscape((&request{s: oc.Server, user: oc.user}).fileID(root))
	for _, kind := range []string{"tar", "zip"} {
		runTool(t, dir, nil, "curl", "-sSf", "-u", oc.user+":"+oc.app, "-o", "oc."+kind, oc.BaseURL+"/archiver?id="+id+"&output-format="+kind)
	}
	script := `import zipfile, tarfile
for name in 'a.zip', 'oc.zip':
    z = zipfile.ZipFile(name)
    assert z.testzip() is None
    print(len(z.namelist()), z.read('cap3/f2') == b'2' * 3000, z.read('cap3/sub/g'))
t = tarfile.open('oc.tar')
print(len(t.getnames()), t.extractfile('cap3/f2').read() == b'2' * 3000)`
	if got := runTool(t, dir, nil, "python3", "-c", script); got != "6 True b'g\\n'\n6 True b'g\\n'\n6 True\n" {
		t.Errorf("python read %q", got)
	}
}
