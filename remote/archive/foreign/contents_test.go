package foreign_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// ranged is an archive in memory that counts its requests.
type ranged struct {
	data     []byte
	requests int
	moved    int64
}

func (r *ranged) source() foreign.Ranged {
	return foreign.Ranged{Size: int64(len(r.data)), Read: func(ctx context.Context, p []byte, off int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if off < 0 || off+int64(len(p)) > int64(len(r.data)) || len(p) == 0 {
			return fmt.Errorf("read of %d bytes at %d of %d", len(p), off, len(r.data))
		}
		r.requests++
		r.moved += int64(len(p))
		copy(p, r.data[off:])
		return nil
	}}
}

// member is what a test puts into an archive.
type member struct {
	name, link string
	typeflag   byte // of tar
	data       string
	mode       int64
	method     uint16 // of zip
	pax        map[string]string
}

var stamp = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

func makeTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Linkname: m.link, Typeflag: m.typeflag, Size: int64(len(m.data)), Mode: m.mode, ModTime: stamp, PAXRecords: m.pax}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if m.typeflag == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: m.typeflag, PAXRecords: m.pax}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeZip(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: m.method, Modified: stamp}
		if m.mode != 0 {
			h.CreatorVersion = 3 << 8
			h.ExternalAttrs = uint32(m.mode) << 16
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(m.name, "/") {
			continue
		}
		if _, err := io.WriteString(f, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// shown returns all items of the contents by walking them as a tree, "path" to
// "type size target", and checks the tree's order.
func shown(t testing.TB, c *foreign.Contents) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(dir int, prefix string)
	walk = func(dir int, prefix string) {
		for item := range c.Children(dir) {
			if up := path.Dir(item.Path); up != strings.TrimSuffix(prefix, "/") && !(prefix == "" && up == ".") {
				t.Fatalf("%q is shown in %q", item.Path, prefix)
			}
			checkItem(t, item)
			if all[item.Path] != "" {
				t.Fatalf("%q is there twice", item.Path)
			}
			all[item.Path] = strings.TrimSpace(fmt.Sprintf("%v %d %s %s", item.Type, item.Size, item.Target, item.Flaw))
			n, ok := c.Find(item.Path)
			if !ok || c.Item(n) != item {
				t.Fatalf("%q is not found", item.Path)
			}
			if item.Type == remote.Dir {
				walk(n, item.Path+"/")
			}
		}
	}
	walk(-1, "")
	if len(all) != c.Len() {
		t.Fatalf("%d of %d items are in the tree", len(all), c.Len())
	}
	return all
}

func checkItem(t testing.TB, item *foreign.Item) {
	t.Helper()
	for element := range strings.SplitSeq(item.Path, "/") {
		if element == "" || element == "." || element == ".." || len(element) > 255 {
			t.Fatalf("item of the name %q", item.Path)
		}
	}
	if strings.ContainsAny(item.Path, "\x00\n\x7f") || item.Size < 0 || item.Packed < 0 || item.At < 0 {
		t.Fatalf("bad item %+v", item)
	}
	if item.Type == remote.Symlink && (item.Target == "" || strings.Contains(item.Target, "\x00")) {
		t.Fatalf("bad link %+v", item)
	}
}

func want(t testing.TB, c *foreign.Contents, err error, leftOut int, all map[string]string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, c); !maps.Equal(got, all) {
		t.Errorf("shown:\n%v\nwant:\n%v", lines(got), lines(all))
	}
	if c.LeftOut != leftOut {
		t.Errorf("%d entries were left out, want %d", c.LeftOut, leftOut)
	}
	again, err := foreign.Decode(c.Encode())
	if err != nil || !reflect.DeepEqual(again, c) && c.Len() > 0 {
		t.Errorf("the contents change when they are stored: %v", err)
	}
}

func lines(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, fmt.Sprintf("%q: %s", k, v))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func wantFormat(t testing.TB, err error, kind remote.Kind) {
	t.Helper()
	var fe *foreign.FormatError
	if !errors.As(err, &fe) || fe.Kind != kind {
		t.Errorf("error %v, want a FormatError of kind %v", err, kind)
	}
}

// TestDecodeRefuses gives Decode what is cut off at every place.
func TestDecodeRefuses(t *testing.T) {
	src := &ranged{data: makeTar(t, member{name: "a/b", data: "x"}, member{name: "c", typeflag: tar.TypeSymlink, link: "a"})}
	c, err := foreign.ReadTar(t.Context(), src.source())
	if err != nil {
		t.Fatal(err)
	}
	code := c.Encode()
	for n := range code {
		if _, err := foreign.Decode(code[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(code))
		}
	}
	if _, err := foreign.Decode(append(code, 0)); err == nil {
		t.Error("one byte more was taken")
	}
}
