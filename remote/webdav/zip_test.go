package webdav

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// capturedZip is the folder that was recorded as a zip, with its members.
func capturedZip(t *testing.T) (data []byte, members map[string][]byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "nextcloud-34", "folder-as-zip.body.zip"))
	if err != nil {
		t.Fatal(err)
	}
	return data, membersOf(t, data)
}

// membersOf reads a zip as others do.
func membersOf(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	members := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if members[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return members
}

// streamed reads a zip as a stream, by the sizes of members. What it returns has come
// before the error.
func streamed(data []byte, members map[string][]byte) (map[string][]byte, error) {
	z, got := &zipStream{r: bufio.NewReader(bytes.NewReader(data))}, map[string][]byte{}
	for {
		name, err := z.next()
		if err != nil {
			return got, err
		}
		if strings.HasSuffix(name, "/") {
			got[name] = nil
			continue
		}
		var b bytes.Buffer
		if err := z.content(int64(len(members[name])), &b); err != nil {
			return got, err
		}
		got[name] = b.Bytes()
	}
}

// TestZipStreamCapture reads the recorded zip, whole and cut at each byte.
func TestZipStreamCapture(t *testing.T) {
	data, members := capturedZip(t)
	got, err := streamed(data, members)
	if err != io.EOF || len(got) != len(members) {
		t.Fatalf("%d of %d members: %v", len(got), len(members), err)
	}
	for name, want := range members {
		if !bytes.Equal(got[name], want) {
			t.Errorf("%s differs", name)
		}
	}
	end := bytes.Index(data, []byte("PK\x01\x02"))
	for n := range len(data) {
		got, err := streamed(data[:n], members)
		if err == nil || (err == io.EOF) != (n >= end+4) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if len(got) == len(members) && n < end {
			t.Fatalf("cut at %d: all have come", n)
		}
	}
}

// TestZipStreamFlips: a byte that is another gives no wrong content.
func TestZipStreamFlips(t *testing.T) {
	data, members := capturedZip(t)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		got, _ := streamed(bad, members)
		for name, content := range got {
			if want, ok := members[name]; ok && !bytes.Equal(content, want) {
				t.Fatalf("byte %d: %s came wrong", i, name)
			}
		}
	}
}

// TestZipStreamForms reads what other servers write, and refuses what it cannot check.
func TestZipStreamForms(t *testing.T) {
	content := strings.Repeat("content ", 100)
	for name, c := range map[string]struct {
		header zip.FileHeader
		raw    bool // sizes and CRC in front
		want   error
	}{
		"sizes behind":   {zip.FileHeader{Name: "d/ä"}, false, io.EOF},
		"sizes in front": {zip.FileHeader{Name: "d/f", CRC32: 0x6d6ee72d, CompressedSize64: 800, UncompressedSize64: 800}, true, io.EOF},
		"another CRC":    {zip.FileHeader{Name: "d/f", CRC32: 0x5a8e3c3e, CompressedSize64: 800, UncompressedSize64: 800}, true, errElsewise},
		"compressed":     {zip.FileHeader{Name: "d/f", Method: zip.Deflate}, false, errPacked},
		"encrypted":      {zip.FileHeader{Name: "d/f", Flags: 1}, true, errPacked},
		"other sizes":    {zip.FileHeader{Name: "d/f", CompressedSize64: 799, UncompressedSize64: 800}, true, errZip},
	} {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		create := w.CreateHeader
		if c.raw {
			create = w.CreateRaw
		}
		f, err := create(&c.header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := streamed(b.Bytes(), map[string][]byte{c.header.Name: []byte(content)})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == io.EOF && string(got[c.header.Name]) != content {
			t.Errorf("%s: came as %q", name, got[c.header.Name])
		}
	}
	for _, text := range []string{"<?xml version", "PK\x07\x08", strings.Repeat("\x00", 600)} {
		if _, err := streamed([]byte(text), nil); !errors.Is(err, errNotZip) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
}
