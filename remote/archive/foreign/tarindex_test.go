package foreign_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/foreign"
)

// hostile are members as no honest tar has them, and what is shown of them.
var hostile = []member{
	{name: "good/file", data: "old"},
	{name: "good/file", data: "the last wins"},
	{name: "../up", data: "x"}, {name: "a/../../up", data: "x"}, {name: "..", data: "x"},
	{name: "/etc/passwd", data: "root"},
	{name: "./here//there/./file", data: "clean"},
	{name: "bell\a", data: "x"}, {name: "new\nline", data: "x"}, {name: "del\x7f", data: "x"},
	{name: strings.Repeat("n", 256), data: "x"},
	{name: strings.Repeat("d/", 130) + "deep", data: "x"},
	{name: strings.Repeat("l/", 50) + strings.Repeat("n", 255), data: "long"},
	{name: "was-file", data: "x"}, {name: "was-file/below", data: "y"},
	{name: "a-b", data: "1"}, {name: "a/b", data: "2"}, {name: "a.b", data: "3"},
}

func hostileShown() map[string]string {
	all := map[string]string{
		"good": "directory 0", "good/file": "file 13",
		"etc": "directory 0", "etc/passwd": "file 4",
		"here": "directory 0", "here/there": "directory 0", "here/there/file": "file 5",
		"was-file": "directory 0", "was-file/below": "file 1",
		"a-b": "file 1", "a": "directory 0", "a/b": "file 1", "a.b": "file 1",
	}
	for i := range 50 {
		all[strings.Repeat("l/", i)+"l"] = "directory 0"
	}
	all[strings.Repeat("l/", 50)+strings.Repeat("n", 255)] = "file 4"
	return all
}

const hostileLeftOut = 9

func TestTarHostileNames(t *testing.T) {
	src := &ranged{data: makeTar(t, hostile...)}
	c, err := foreign.ReadTar(t.Context(), src.source())
	want(t, c, err, hostileLeftOut, hostileShown())
}

func TestTarTypes(t *testing.T) {
	src := &ranged{data: makeTar(t,
		member{name: "./", typeflag: tar.TypeDir},
		member{typeflag: tar.TypeXGlobalHeader, pax: map[string]string{"comment": "about all"}},
		member{name: "dir/", typeflag: tar.TypeDir, mode: 0o700},
		member{name: "dir/file", data: "content", mode: 0o755},
		member{name: "dir/early", typeflag: tar.TypeLink, link: "dir/late"},
		member{name: "dir/same", typeflag: tar.TypeLink, link: "./dir/file"},
		member{name: "dir/chain", typeflag: tar.TypeLink, link: "dir/same"},
		member{name: "dir/self", typeflag: tar.TypeLink, link: "dir/self"},
		member{name: "dir/up", typeflag: tar.TypeLink, link: "../dir/file"},
		member{name: "dir/todir", typeflag: tar.TypeLink, link: "dir"},
		member{name: "dir/late", data: "x"},
		member{name: "link", typeflag: tar.TypeSymlink, link: "../../etc/passwd"},
		member{name: "link/below", data: "not through a link"},
		member{name: "sym", typeflag: tar.TypeSymlink, link: "/dev/null"},
		member{name: "pipe", typeflag: tar.TypeFifo}, member{name: "null", typeflag: tar.TypeChar}, member{name: "sda", typeflag: tar.TypeBlock},
		member{name: "empty"},
		member{name: "pax-" + strings.Repeat("p", 200), data: "long name", pax: map[string]string{"USER.x": "y"}},
	)}
	c, err := foreign.ReadTar(t.Context(), src.source())
	want(t, c, err, 8, map[string]string{
		"dir": "directory 0", "dir/file": "file 7", "dir/same": "file 7", "dir/chain": "file 7", "dir/late": "file 1",
		"link": "directory 0", "link/below": "file 18", "sym": "symlink 0 /dev/null", "empty": "file 0",
		"pax-" + strings.Repeat("p", 200): "file 9",
	})
	for _, name := range []string{"dir/file", "dir/same", "dir/chain"} {
		n, _ := c.Find(name)
		item := c.Item(n)
		if got := string(src.data[item.At:][:item.Size]); got != "content" || item.MTime != stamp.UnixNano() || item.Mode != 0o755 {
			t.Errorf("%s: %q, %+v", name, got, item)
		}
	}
}

// TestTarSparse shows what GNU tar stores without its holes, and does not read it.
func TestTarSparse(t *testing.T) {
	// An old GNU header of a sparse file: 512 bytes of data for 1 MiB.
	h := make([]byte, 512)
	copy(h, "holes")
	copy(h[100:], "0000644\x00")
	copy(h[124:], "00000001000\x00")
	copy(h[136:], "00000000000\x00")
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	copy(h[386:], "00000000000\x0000000001000\x00")
	copy(h[483:], "00004000000\x00")
	sum := 8 * int(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	src := &ranged{data: append(append(h, make([]byte, 512)...), makeTar(t, member{name: "after", data: "x"})...)}
	c, err := foreign.ReadTar(t.Context(), src.source())
	want(t, c, err, 0, map[string]string{
		"holes": "file 1048576  " + foreign.Sparse.String(), "after": "file 1",
	})
}

// TestTarDamaged cuts an archive off at many places, and takes other files for one.
func TestTarDamaged(t *testing.T) {
	whole := makeTar(t, member{name: "one", data: strings.Repeat("1", 2000)}, member{name: "two", data: strings.Repeat("2", 700)})
	for _, n := range []int{100, 511, 513, 600, 2559, 2560, 3071, 3073, 3584} {
		src := &ranged{data: whole[:n]}
		_, err := foreign.ReadTar(t.Context(), src.source())
		wantFormat(t, err, remote.Corrupt)
	}
	for _, text := range []string{"\x1f\x8b\x08 a gzip file", strings.Repeat("no archive ", 300)} {
		src := &ranged{data: []byte(text)}
		_, err := foreign.ReadTar(t.Context(), src.source())
		wantFormat(t, err, remote.Corrupt)
	}
	src := &ranged{}
	c, err := foreign.ReadTar(t.Context(), src.source())
	want(t, c, err, 0, map[string]string{})
}

// TestTarRequests counts what it costs to find out what is in a tar.
func TestTarRequests(t *testing.T) {
	var small, large []member
	for i := range 3000 {
		small = append(small, member{name: fmt.Sprintf("small/%04d", i), data: strings.Repeat("s", 4000)})
	}
	for i := range 20 {
		large = append(large, member{name: fmt.Sprintf("large/%02d", i), data: strings.Repeat("l", 3<<20)})
	}
	for name, c := range map[string]struct {
		members  []member
		requests int
		moved    int64
	}{
		"small": {small, 12, 14 << 20},
		"large": {large, 22, 1 << 20},
		"mixed": {append(large[:10:10], small[:500]...), 30, 8 << 20},
	} {
		src := &ranged{data: makeTar(t, c.members...)}
		got, err := foreign.ReadTar(t.Context(), src.source())
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		for _, text := range shown(t, got) {
			if strings.HasPrefix(text, "file") {
				files++
			}
		}
		if files != len(c.members) || src.requests > c.requests || src.moved > c.moved {
			t.Errorf("%s: %d of %d files with %d requests (want %d) and %d bytes of %d (want %d)",
				name, files, len(c.members), src.requests, c.requests, src.moved, len(src.data), c.moved)
		}
	}
}

// TestTarEndless gives up on a tar in which each header costs a request and there are more
// of them than anybody would wait for.
func TestTarEndless(t *testing.T) {
	const size = 1 << 20
	header := makeTar(t, member{name: "same", data: strings.Repeat("x", size)})[:512]
	requests := 0
	_, err := foreign.ReadTar(t.Context(), foreign.Ranged{Size: 1 << 50, Read: func(_ context.Context, p []byte, off int64) error {
		requests++
		clear(p)
		if at := off % (512 + size); at == 0 {
			copy(p, header)
		} else if rest := 512 + size - at; rest < int64(len(p)) {
			copy(p[rest:], header)
		}
		return nil
	}})
	wantFormat(t, err, remote.TooLarge)
	if requests != foreign.MaxTarRequests {
		t.Errorf("%d requests", requests)
	}
}

// TestTarErrors wants the errors of the source as they are.
func TestTarErrors(t *testing.T) {
	data := makeTar(t, member{name: "one", data: strings.Repeat("1", 1<<20)}, member{name: "two"})
	lost := errors.New("lost")
	n := 0
	_, err := foreign.ReadTar(t.Context(), foreign.Ranged{Size: int64(len(data)), Read: func(_ context.Context, p []byte, off int64) error {
		if n++; n == 2 {
			return lost
		}
		copy(p, data[off:])
		return nil
	}})
	if !errors.Is(err, lost) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src := &ranged{data: data}
	if _, err := foreign.ReadTar(ctx, src.source()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of an ended context", err)
	}
}

// FuzzTar wants a good tree, or an error, of anything, and to find the same as a reader
// that reads all.
func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, hostile...))
	f.Add(makeTar(f, member{name: "d/", typeflag: tar.TypeDir}, member{name: "d/l", typeflag: tar.TypeLink, link: "d/f"},
		member{name: "d/f", data: "x"}, member{name: "d/h", typeflag: tar.TypeLink, link: "d/f"}, member{name: "s", typeflag: tar.TypeSymlink, link: "d"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		src := &ranged{data: data}
		c, err := foreign.ReadTar(t.Context(), src.source())
		if err != nil {
			var fe *foreign.FormatError
			if !errors.As(err, &fe) {
				t.Fatal(err)
			}
			return
		}
		shown(t, c)
		contents := map[string]bool{}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			if _, err := r.Next(); err != nil {
				break
			}
			text, _ := io.ReadAll(r)
			contents[string(text)] = true
		}
		for i := range c.Len() {
			item := c.Item(i)
			if item.Type != remote.File || item.Flaw != foreign.Readable {
				continue
			}
			if item.At+item.Size > int64(len(data)) || !contents[string(data[item.At:][:item.Size])] {
				t.Fatalf("the content of %q is not that of any member", item.Path)
			}
		}
	})
}
