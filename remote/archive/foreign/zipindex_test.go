package foreign_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

func TestZipHostileNames(t *testing.T) {
	src := &ranged{data: makeZip(t, hostile...)}
	c, err := foreign.ReadZip(t.Context(), src.source())
	want(t, c, err, hostileLeftOut, hostileShown())
}

func TestZipTypes(t *testing.T) {
	src := &ranged{data: makeZip(t,
		member{name: "dir/", mode: 0o040700},
		member{name: "dir/stored", data: "content", mode: 0o100755},
		member{name: "dir/deflated", data: strings.Repeat("content", 1000), method: zip.Deflate},
		member{name: "dir/link", data: "../up/and\naway", mode: 0o120777},
		member{name: "dir/packed-link", data: strings.Repeat("../", 100), mode: 0o120777, method: zip.Deflate},
		member{name: "dir/long-link", data: strings.Repeat("x", 5000), mode: 0o120777},
		member{name: "dir/no-link", mode: 0o120777},
		member{name: "dir/nul-link", data: "a\x00b", mode: 0o120777},
		member{name: "pipe", mode: 0o010644},
		member{name: "dos/file", data: "from elsewhere"},
	)}
	c, err := foreign.ReadZip(t.Context(), src.source())
	want(t, c, err, 4, map[string]string{
		"dir": "directory 0", "dir/stored": "file 7", "dir/deflated": "file 7000", "dir/link": "symlink 0 ../up/and\naway",
		"dir/packed-link": "symlink 0 " + strings.Repeat("../", 100), "dos": "directory 0", "dos/file": "file 14",
	})
	for name, content := range map[string]string{"dir/stored": "content", "dir/deflated": strings.Repeat("content", 1000)} {
		n, _ := c.Find(name)
		item := c.Item(n)
		if got, err := unpack(src.data, item); err != nil || got != content || item.MTime != stamp.UnixNano() {
			t.Errorf("%s: %q, %v, %+v", name, got, err, item)
		}
	}
	if n, _ := c.Find("dir/stored"); c.Item(n).Mode != 0o755 {
		t.Errorf("mode %o", c.Item(n).Mode)
	}
}

// unpack returns the content of a member.
func unpack(data []byte, item *foreign.Item) (string, error) {
	head := data[item.At:]
	n, err := foreign.HeaderLength(item, head[:min(len(head), foreign.HeaderGuess(item))])
	if err != nil {
		return "", err
	}
	if int64(len(head)) < int64(n)+item.Packed || item.Size > 1<<24 {
		return "", errors.New("outside")
	}
	p := make([]byte, item.Size)
	err = foreign.Unpack(item, head[n:int64(n)+item.Packed], p)
	return string(p), err
}

// patched returns a zip after a change of the first record with that signature.
func patched(data []byte, signature string, change func(record []byte)) []byte {
	data = slices.Clone(data)
	change(data[bytes.Index(data, []byte(signature)):])
	return data
}

const (
	local   = "PK\x03\x04"
	central = "PK\x01\x02"
	ending  = "PK\x05\x06"
)

var le = binary.LittleEndian

// TestZipFlaws wants members that cannot be read to be shown, and the others to be read.
func TestZipFlaws(t *testing.T) {
	good := makeZip(t, member{name: "first", data: "some content", method: zip.Deflate}, member{name: "second", data: "more"})
	for name, c := range map[string]struct {
		change func(p []byte)
		shown  string
	}{
		"encrypted":        {func(p []byte) { p[8] |= 1 }, "file 12  " + foreign.Encrypted.String()},
		"bzip2":            {func(p []byte) { p[10] = 12 }, "file 12  " + foreign.Method.String()},
		"stored":           {func(p []byte) { p[10] = 0 }, "file 12  " + foreign.Damaged.String()},
		"huge":             {func(p []byte) { le.PutUint32(p[24:], 0xfffffff0) }, "file 4294967280  " + foreign.Damaged.String()},
		"packed is huge":   {func(p []byte) { le.PutUint32(p[20:], 1<<30) }, "file 12  " + foreign.Damaged.String()},
		"behind the end":   {func(p []byte) { le.PutUint32(p[42:], 1<<30) }, "file 12  " + foreign.Damaged.String()},
		"in the directory": {func(p []byte) { le.PutUint32(p[42:], uint32(bytes.Index(good, []byte(central)))) }, "file 12  " + foreign.Damaged.String()},
		"zip64 is missing": {func(p []byte) { le.PutUint32(p[42:], 0xffffffff) }, "file 12  " + foreign.Damaged.String()},
	} {
		t.Run(name, func(t *testing.T) {
			src := &ranged{data: patched(good, central, c.change)}
			got, err := foreign.ReadZip(t.Context(), src.source())
			want(t, got, err, 0, map[string]string{"first": c.shown, "second": "file 4"})
		})
	}
}

// TestZipLies reads members of which the directory says something else than the archive.
func TestZipLies(t *testing.T) {
	good := makeZip(t, member{name: "first", data: strings.Repeat("content ", 100), method: zip.Deflate})
	for name, data := range map[string][]byte{
		"good":      good,
		"shorter":   patched(good, central, func(p []byte) { le.PutUint32(p[24:], 799) }),
		"longer":    patched(good, central, func(p []byte) { le.PutUint32(p[24:], 801) }),
		"bomb":      patched(good, central, func(p []byte) { le.PutUint32(p[24:], 10) }),
		"checksum":  patched(good, central, func(p []byte) { p[16]++ }),
		"bytes":     patched(good, local, func(p []byte) { p[48] ^= 0x55 }),
		"name":      patched(good, local, func(p []byte) { p[30]++ }),
		"method":    patched(good, local, func(p []byte) { p[8] = 0 }),
		"no header": patched(good, local, func(p []byte) { p[3]++ }),
	} {
		src := &ranged{data: data}
		c, err := foreign.ReadZip(t.Context(), src.source())
		if err != nil || c.Len() != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := unpack(src.data, c.Item(0))
		if (err == nil) != (name == "good") {
			t.Errorf("%s: %d bytes, error %v", name, len(text), err)
		}
	}
}

// TestZipOverlaps wants members that share bytes to be refused, and no others.
func TestZipOverlaps(t *testing.T) {
	data := makeZip(t, member{name: "a", data: strings.Repeat("a", 200)}, member{name: "b", data: strings.Repeat("b", 200)}, member{name: "c", data: "c"})
	second := bytes.LastIndex(data[:bytes.LastIndex(data, []byte(central))], []byte(central))
	le.PutUint32(data[second+42:], 50)
	src := &ranged{data: data}
	c, err := foreign.ReadZip(t.Context(), src.source())
	want(t, c, err, 0, map[string]string{
		"a": "file 200  " + foreign.Damaged.String(), "b": "file 200  " + foreign.Damaged.String(), "c": "file 1",
	})
}

// TestZipDamaged gives ReadZip what is no zip.
func TestZipDamaged(t *testing.T) {
	good := makeZip(t, member{name: "first", data: "some content"}, member{name: "second", data: "more"})
	for name, data := range map[string][]byte{
		"empty":            nil,
		"text":             []byte(strings.Repeat("no archive ", 300)),
		"cut at the end":   good[:len(good)-1],
		"cut at the start": good[20:],
		"count":            patched(good, ending, func(p []byte) { p[10]++; p[8]++ }),
		"directory size":   patched(good, ending, func(p []byte) { p[12]-- }),
		"directory place":  patched(good, ending, func(p []byte) { le.PutUint32(p[16:], 1<<20) }),
		"entry":            patched(good, central, func(p []byte) { p[0]++ }),
		"name is too long": patched(good, central, func(p []byte) { le.PutUint16(p[28:], 0xffff) }),
	} {
		src := &ranged{data: data}
		_, err := foreign.ReadZip(t.Context(), src.source())
		t.Log(name, err)
		wantFormat(t, err, remote.Corrupt)
	}
	parts := &ranged{data: patched(good, ending, func(p []byte) { p[4] = 2 })}
	_, err := foreign.ReadZip(t.Context(), parts.source())
	wantFormat(t, err, remote.Unsupported)
	for name, data := range map[string][]byte{
		"comment":           append(patched(good, ending, func(p []byte) { p[20] = 5 }), "hello"...),
		"program before it": append(bytes.Repeat([]byte("x"), 3000), good...),
	} {
		src := &ranged{data: data}
		c, err := foreign.ReadZip(t.Context(), src.source())
		t.Log(name)
		want(t, c, err, 0, map[string]string{"first": "file 12", "second": "file 4"})
		if text, err := unpack(src.data, c.Item(0)); err != nil || text != "some content" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestZip64 reads an archive with more entries than 16 bits count, whose directory is
// larger than what is read at first.
func TestZip64(t *testing.T) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := range 66_000 {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("d%02d/file-%05d", i%50, i)})
		if err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			_, _ = io.WriteString(f, "content")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	src := &ranged{data: buf.Bytes()}
	c, err := foreign.ReadZip(t.Context(), src.source())
	if err != nil || c.Len() != 66_050 || src.requests > 3 {
		t.Fatalf("%d items with %d requests, %v", c.Len(), src.requests, err)
	}
	n, ok := c.Find("d00/file-65000")
	if !ok {
		t.Fatal("not found")
	}
	if text, err := unpack(src.data, c.Item(n)); err != nil || text != "content" {
		t.Errorf("%q, %v", text, err)
	}
	src.data = patched(src.data, "PK\x06\x06", func(p []byte) { p[32]++ })
	_, err = foreign.ReadZip(t.Context(), src.source())
	wantFormat(t, err, remote.Corrupt)
}

// TestZipRequests counts what it costs to find out what is in a zip.
func TestZipRequests(t *testing.T) {
	var members []member
	for i := range 1000 {
		members = append(members, member{name: fmt.Sprintf("directory/of/many/small/files/file-%04d.dat", i), data: strings.Repeat("s", 2000)})
	}
	src := &ranged{data: makeZip(t, members...)}
	if _, err := foreign.ReadZip(t.Context(), src.source()); err != nil || src.requests != 1 || src.moved > 256<<10 {
		t.Errorf("%d requests, %d bytes, %v", src.requests, src.moved, err)
	}
	for i := range 200 { // between members that are far from each other
		members = append(members, member{name: fmt.Sprintf("link-%d", i), data: "target", mode: 0o120777},
			member{name: fmt.Sprintf("large-%d", i), data: strings.Repeat("l", 300<<10)})
	}
	src = &ranged{data: makeZip(t, members...)}
	c, err := foreign.ReadZip(t.Context(), src.source())
	if err != nil || src.requests > 1+128 || c.LeftOut != 200-128 {
		t.Errorf("%d requests, %d left out, %v", src.requests, c.LeftOut, err)
	}
}

// FuzzZip wants a good tree, or an error, of anything, and contents that are as long as
// they are said to be.
func FuzzZip(f *testing.F) {
	good := makeZip(f, hostile...)
	f.Add(good)
	f.Add(makeZip(f, member{name: "d/"}, member{name: "d/s", data: "x"}, member{name: "d/p", data: strings.Repeat("y", 100), method: zip.Deflate},
		member{name: "l", data: "d/s", mode: 0o120777}))
	f.Add(patched(good, central, func(p []byte) { le.PutUint32(p[24:], 0xffffffff) }))
	f.Add([]byte(ending + strings.Repeat("\xff", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		src := &ranged{data: data}
		c, err := foreign.ReadZip(t.Context(), src.source())
		if err != nil {
			var fe *foreign.FormatError
			if !errors.As(err, &fe) {
				t.Fatal(err)
			}
			return
		}
		shown(t, c)
		for i := range c.Len() {
			item := c.Item(i)
			if item.Type != remote.File || item.Flaw != foreign.Readable {
				continue
			}
			if item.At+item.Packed > int64(len(data)) {
				t.Fatalf("%q is outside of the archive", item.Path)
			}
			if text, err := unpack(data, item); err == nil && int64(len(text)) != item.Size {
				t.Fatalf("%q has %d bytes", item.Path, len(text))
			}
		}
	})
}
