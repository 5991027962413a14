package webdav

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// The archiver of the oCIS family sends what ids name, folders with all that is below
// them, as tar, within limits that its capabilities tell. An archive beyond them just ends.

// archiverDoc is an archiver in the capabilities.
type archiverDoc struct {
	Enabled  bool        `json:"enabled"`
	URL      string      `json:"archiver_url"`
	Formats  []string    `json:"formats"`
	MaxFiles looseNumber `json:"max_num_files"`
	MaxSize  looseNumber `json:"max_size"`
}

// looseNumber is a number that comes as one or as a text; 0 if it is neither.
type looseNumber int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *looseNumber) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if v, err := strconv.ParseInt(text, 10, 64); err == nil && v >= 0 {
		*n = looseNumber(v)
	}
	return nil
}

var _ json.Unmarshaler = (*looseNumber)(nil)

// planArchiver finds out whether there is an archiver.
func (b *Backend) planArchiver(caps *capabilities) {
	for _, a := range caps.Capabilities.Files.Archivers {
		at, err := url.Parse(a.URL)
		if !a.Enabled || err != nil || at.Host != "" || at.Scheme != "" || !strings.HasPrefix(a.URL, "/") ||
			!slices.Contains(a.Formats, "tar") || b.public() {
			continue
		}
		p := &b.packs
		p.archiver = b.site(at.EscapedPath())
		p.files, p.bytes = packFiles, packBytes
		if a.MaxFiles > 0 {
			p.files = min(p.files, max(int(min(a.MaxFiles, packFiles))-1, 0)) // the folder counts as well
		}
		if a.MaxSize > 0 {
			p.bytes = min(p.bytes, int64(a.MaxSize))
		}
		return
	}
}

// archived asks for a folder as a tar. The archiver wants its id, which takes a look.
func (c *call) archived(ctx context.Context, expects int64) (*http.Response, error) {
	f, err := c.lookAt(ctx, c.path)
	switch {
	case err != nil:
		return nil, err
	case f.Type != remote.Dir:
		return nil, c.fail(remote.NotDir, nil)
	case f.ID == "":
		c.b.packs.rest(packRefused)
		return nil, c.failf(remote.Unsupported, "the server shows no id of the directory")
	}
	r := &request{
		method: http.MethodGet, repeats: true, expects: expects,
		url:    c.b.packs.archiver + "?id=" + url.QueryEscape(f.ID) + "&output-format=tar",
		header: map[string]string{"Accept-Encoding": "identity"},
	}
	return c.packed(ctx, r, "application/octet-stream", "application/x-tar", "application/tar")
}

// tarStream are the members of a tar.
type tarStream struct {
	r *tar.Reader
	h *tar.Header
}

func openTar(body io.Reader) pack { return &tarStream{r: tar.NewReader(body)} }

// next implements pack. Directories have a slash at their ends.
func (t *tarStream) next() (name string, err error) {
	if t.h, err = t.r.Next(); err != nil {
		return "", err
	}
	name = strings.TrimSuffix(t.h.Name, "/")
	switch t.h.Typeflag {
	case tar.TypeDir:
		return name + "/", nil
	case tar.TypeReg:
		return name, nil
	}
	return "", errNotTar
}

// content implements pack.
func (t *tarStream) content(size int64, w io.Writer) error {
	if t.h.Size != size {
		return errElsewise
	}
	_, err := io.CopyN(w, t.r, size)
	return cutShort(err)
}
