package archive_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/archive"
	"github.com/meshmount/meshmount/remote/remotetest"
)

var when = time.Date(2021, 3, 4, 5, 6, 7, 123_456_789, time.UTC)

// item makes an item of a content.
func item(t *testing.T, name string, content []byte) archive.Item {
	t.Helper()
	src := remotetest.Bytes(content)
	sum, err := archive.Measure(src)
	if err != nil {
		t.Fatal(err)
	}
	return archive.Item{Member: archive.Member{Name: name, MTime: when, Sum: sum}, Source: src}
}

// build makes an archive and returns its bytes.
func build(t *testing.T, head archive.Index, items ...archive.Item) (*archive.Archive, []byte) {
	t.Helper()
	a, err := archive.New(head, items)
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || int64(len(b)) != a.Size() {
		t.Fatalf("%d bytes of %d: %v", len(b), a.Size(), err)
	}
	return a, b
}

// sample is an archive of a bit of everything.
func sample(t *testing.T) (*archive.Archive, []byte) {
	t.Helper()
	items := []archive.Item{item(t, "a.txt", []byte("alpha")), item(t, "leer ü", nil), item(t, "large", remotetest.Pattern(300_000, 1)), item(t, "old", []byte("x"))}
	items[0].Member.Mode, items[0].Member.ModeKnown = 0o640, true
	items[1].Member.MTime = time.Date(1950, 1, 2, 3, 4, 5, 6, time.UTC)
	items[2].Member.MTime = time.Date(2100, 1, 2, 3, 4, 5, 6, time.UTC) // beyond the extended timestamp
	for i, number := range []int{0, 2, 3, 7} {
		items[i].Member.Number = number
	}
	items[3].Member.From = "\"v7\""
	return build(t, archive.Index{ID: archive.NewID(when), Generation: 3, Born: when.Add(time.Hour)}, items...)
}

// parse reads an index with as many requests as that takes.
func parse(head *archive.Index, b []byte, first int64) (*archive.Index, int, error) {
	size := int64(len(b))
	from := max(size-first, 0)
	for n := 1; ; n++ {
		x, err := archive.Parse(head.ID, head.Generation, b[from:], size)
		var short *archive.ShortError
		if !errors.As(err, &short) || n > 5 {
			return x, n, err
		}
		from = short.From
	}
}

func TestRoundTrip(t *testing.T) {
	a, b := sample(t)
	want := a.Index()
	for _, first := range []int64{archive.FirstTail, 22, 100, 500, 1 << 30} {
		got, requests, err := parse(want, b, first)
		if err != nil {
			t.Fatalf("from %d bytes: %v", first, err)
		}
		if requests > 3 || first >= archive.FirstTail && requests > 1 {
			t.Errorf("from %d bytes: %d requests", first, requests)
		}
		if !slices.EqualFunc(got.Members, want.Members, same) || !got.Born.Equal(want.Born) {
			t.Errorf("from %d bytes: %+v, want %+v", first, got, want)
		}
		for _, m := range got.Members {
			sum := sha256.Sum256(b[m.Offset : m.Offset+m.Size])
			if hex.EncodeToString(sum[:]) != m.Sum.SHA256 {
				t.Errorf("%q is not at %d", m.Name, m.Offset)
			}
		}
	}
	if _, _, err := parse(&archive.Index{ID: archive.NewID(when)}, b, 1<<20); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("an archive under another name: %v", err)
	}
}

func same(a, b archive.Member) bool {
	return a.Name == b.Name && a.Size == b.Size && a.MTime.Equal(b.MTime) && a.Mode == b.Mode && a.ModeKnown == b.ModeKnown &&
		a.Sum == b.Sum && a.Offset == b.Offset && a.Number == b.Number && a.From == b.From && a.Version() == b.Version()
}

// TestOtherTools has the archive read by Go's archive/zip, and by unzip and Python where
// they are.
func TestOtherTools(t *testing.T) {
	a, b := sample(t)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(z.File) != len(a.Index().Members)+1 || z.File[len(z.File)-1].Name != archive.ManifestName {
		t.Errorf("%d members", len(z.File))
	}
	for i, m := range a.Index().Members {
		r, err := z.File[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r) // checks the CRC
		if err != nil || !bytes.Equal(content, b[m.Offset:m.Offset+m.Size]) || z.File[i].Name != m.Name {
			t.Errorf("%q: %d bytes, %v", m.Name, len(content), err)
		}
	}
	if f := z.File[0]; !f.Modified.Equal(when.Truncate(time.Second)) || f.Mode() != 0o640 {
		t.Errorf("time %v, mode %v", f.Modified, f.Mode())
	}
	file := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{{"unzip", "-t", file}, {"python3", "-m", "zipfile", "-t", file}} {
		if path, err := exec.LookPath(tool[0]); err == nil {
			if out, err := exec.CommandContext(t.Context(), path, tool[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", tool[0], err, out)
			}
		}
	}
}

// TestDamage cuts an archive off everywhere and turns every bit of its end.
func TestDamage(t *testing.T) {
	id := &archive.Index{ID: archive.NewID(when)}
	a, b := build(t, *id, item(t, "one", []byte("1")), item(t, "two", []byte("22")))
	for n := range b {
		if _, _, err := parse(id, b[:n], 1<<20); !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("cut off at %d of %d: %v", n, len(b), err)
		}
	}
	for at := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[at] ^= 1 << bit
			got, _, err := parse(id, c, 1<<20)
			if err != nil {
				if !errors.Is(err, archive.ErrDamaged) {
					t.Fatalf("bit %d of byte %d: %v", bit, at, err)
				}
				continue
			}
			for i, m := range got.Members {
				want := a.Index().Members[i]
				if m.Sum.CRC32 = want.Sum.CRC32; !same(m, want) { // of the directory alone; the digest is what counts
					t.Fatalf("bit %d of byte %d: %+v", bit, at, m)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	id := archive.NewID(when)
	src := remotetest.Bytes([]byte("content"))
	sum, err := archive.Measure(src)
	if err != nil {
		f.Fatal(err)
	}
	a, err := archive.New(archive.Index{ID: id}, []archive.Item{{Member: archive.Member{Name: "name", MTime: when, Sum: sum}, Source: src}})
	if err != nil {
		f.Fatal(err)
	}
	r, _ := a.Open()
	b, _ := io.ReadAll(r)
	f.Add(b, int64(0))
	f.Add(b[10:], int64(10))
	f.Fuzz(func(t *testing.T, tail []byte, before int64) {
		size := int64(len(tail)) + max(before, 0)
		x, err := archive.Parse(id, 0, tail, size)
		if err != nil {
			return
		}
		for _, m := range x.Members {
			if !archive.CanHold(m.Name) || m.Offset < 0 || m.Size < 0 || m.Offset+m.Size > size {
				t.Errorf("%+v in %d bytes", m, size)
			}
		}
	})
}

func TestBadItems(t *testing.T) {
	id := archive.NewID(when)
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a\x00", "\xff", archive.ManifestName, id.FileName(0), strings.Repeat("x", 256)} {
		if archive.CanHold(name) {
			t.Errorf("%q can be a member", name)
		}
		if _, err := archive.New(archive.Index{ID: id}, []archive.Item{item(t, name, nil)}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if _, err := archive.New(archive.Index{ID: id}, nil); err == nil {
		t.Error("an archive of nothing")
	}
	if _, err := archive.New(archive.Index{ID: id}, []archive.Item{item(t, "a", nil), item(t, "a", nil)}); err == nil {
		t.Error("an archive with a name twice")
	}
	if _, err := archive.Measure(remotetest.ShortSource(10, 5)); err == nil {
		t.Error("a source that ends early")
	}
	if _, err := archive.Measure(remotetest.FailingSource(10, 5)); !errors.Is(err, remotetest.ErrSource) {
		t.Errorf("a source that fails: %v", err)
	}
}

// TestChangedSource wants content that changes after it was measured to be noticed.
func TestChangedSource(t *testing.T) {
	it := item(t, "a", []byte("first"))
	it.Source = remotetest.Bytes([]byte("other"))
	a, err := archive.New(archive.Index{ID: archive.NewID(when)}, []archive.Item{it})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("it was not noticed")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	last := archive.ID("")
	for n := range 100 {
		id := archive.NewID(when)
		if id == last || len(id.Luck()) < 8 || !strings.HasSuffix(string(id), id.Luck()) {
			t.Fatalf("%q after %q", id, last)
		}
		if got, generation, ok := archive.ParseFileName(id.FileName(n)); !ok || got != id || generation != n {
			t.Errorf("%q: %q", id.FileName(n), got)
		}
		uid := archive.UID{Archive: id, Number: 4711}
		if got, ok := archive.ParseTombstone(uid.Tombstone()); !ok || got != uid {
			t.Errorf("%q: %v", uid.Tombstone(), got)
		}
		if !archive.Hidden(id.FileName(n)) || !archive.Hidden(uid.Tombstone()) {
			t.Error("names that are not hidden")
		}
		last = id
	}
	good := string(last)
	for _, name := range []string{"", "a", ".meshmount-", ".meshmount-.zip", ".meshmount-" + good, good + ".zip", ".meshmount-" + good + ".0 (copy).zip",
		".meshmount-" + strings.ToUpper(good) + ".0.zip", ".meshmount-" + good + ".gone", ".meshmount-" + good + ".01.gone", ".meshmount-" + good + ".-1.gone",
		".meshmount-" + good + ".999999.gone", ".meshmount-" + good + ".zip", ".meshmount-" + good + ".01.zip", ".meshmount-20210230T000000.000000Z-abcdefgh.0.zip", fmt.Sprintf(".meshmount-%s.0.zip ", good), archive.ManifestName} {
		if archive.Hidden(name) {
			t.Errorf("%q is hidden", name)
		}
	}
}

// TestGrave wants an archive of which all is dead to hold nothing, but not a first generation.
func TestGrave(t *testing.T) {
	a, b := build(t, archive.Index{ID: archive.NewID(when), Generation: 1, Born: when})
	if x, _, err := parse(a.Index(), b, 1<<20); err != nil || len(x.Members) != 0 || !x.Born.Equal(when) {
		t.Errorf("%+v, %v", x, err)
	}
	first := &archive.Index{ID: a.Index().ID}
	if _, _, err := parse(first, b, 1<<20); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("as another generation: %v", err)
	}
}
