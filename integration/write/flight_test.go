package write_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
)

// flight is a change of a file while its upload is under way.
type flight struct {
	name string
	do   func(m *mount) error
	want expect // afterwards
	// waits: it is done when the server has the upload, and not before.
	waits bool
}

// flights change d/f, which holds book(1) and, if it was there before, held book(0).
func flights(size int) []flight {
	sent, again := book(1, size), book(2, size/2+77)
	return []flight{
		{name: "rename", do: func(m *mount) error { return os.Rename(m.path("d/f"), m.path("d/g")) }, want: expect{"d": nil, "d/g": sent}},
		{name: "rename elsewhere", do: func(m *mount) error {
			return errors.Join(os.Mkdir(m.path("e"), 0o755), os.Rename(m.path("d/f"), m.path("e/f")))
		}, want: expect{"d": nil, "e": nil, "e/f": sent}},
		{name: "rename of the directory", do: func(m *mount) error { return os.Rename(m.path("d"), m.path("e")) }, want: expect{"e": nil, "e/f": sent}, waits: true},
		{name: "rename over", do: func(m *mount) error {
			return errors.Join(os.WriteFile(m.path("d/temp"), again, 0o644), os.Rename(m.path("d/temp"), m.path("d/f")))
		}, want: expect{"d": nil, "d/f": again}},
		{name: "there and back", do: func(m *mount) error {
			return errors.Join(os.Rename(m.path("d/f"), m.path("d/g")), os.Rename(m.path("d/g"), m.path("d/f")))
		}, want: expect{"d": nil, "d/f": sent}},
		{name: "unlink", do: func(m *mount) error { return os.Remove(m.path("d/f")) }, want: expect{"d": nil}},
		{name: "unlink all", do: func(m *mount) error { return os.RemoveAll(m.path("d")) }, want: expect{}},
		{name: "unlink and again", do: func(m *mount) error {
			return errors.Join(os.Remove(m.path("d/f")), os.WriteFile(m.path("d/f"), again, 0o644))
		}, want: expect{"d": nil, "d/f": again}},
		{name: "rewrite", do: func(m *mount) error { return os.WriteFile(m.path("d/f"), again, 0o644) }, want: expect{"d": nil, "d/f": again}},
		{name: "append", do: func(m *mount) error {
			f, err := os.OpenFile(m.path("d/f"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.Write(again)
			return errors.Join(err, f.Close())
		}, want: expect{"d": nil, "d/f": append(bytes.Clone(sent), again...)}},
		{name: "truncate", do: func(m *mount) error { return os.Truncate(m.path("d/f"), 50) }, want: expect{"d": nil, "d/f": sent[:50]}},
		{name: "become a directory", do: func(m *mount) error {
			return errors.Join(os.Remove(m.path("d/f")), os.Mkdir(m.path("d/f"), 0o755), os.WriteFile(m.path("d/f/x"), again, 0o644))
		}, want: expect{"d": nil, "d/f": nil, "d/f/x": again}},
		{name: "swap", do: func(m *mount) error {
			return errors.Join(os.WriteFile(m.path("d/o"), again, 0o644), os.Rename(m.path("d/f"), m.path("d/t")),
				os.Rename(m.path("d/o"), m.path("d/f")), os.Rename(m.path("d/t"), m.path("d/o")))
		}, want: expect{"d": nil, "d/f": again, "d/o": sent}},
	}
}

// TestFlight changes files in all ways while the server has their upload half done.
func TestFlight(t *testing.T) {
	for _, size := range []int{10_000, 6 << 20} {
		for _, old := range []bool{false, true} {
			if !long() && old != (size > 10_000) { // the rest differs little
				continue
			}
			for _, f := range flights(size) {
				t.Run(fmt.Sprintf("%d bytes/old=%v/%s", size, old, f.name), func(t *testing.T) {
					t.Parallel()
					each(t, func(t *testing.T, s *server) { f.test(t, s, size, old) })
				})
			}
		}
	}
}

func (f *flight) test(t *testing.T, s *server, size int, old bool) {
	m := s.mounted(t, cacheDir(t))
	m.mkdir(t, "d")
	if old {
		m.write(t, "d/f", book(0, size/3))
	}
	m.flush(t)
	d := s.holdUploads(t)
	m.write(t, "d/f", book(1, size))
	await(t, "the upload", d.entered)
	if f.waits {
		time.AfterFunc(100*time.Millisecond, d.open)
	}
	if err := f.do(m); err != nil {
		t.Fatal(err)
	}
	f.want.inMount(t, m)
	d.open()
	m.flush(t)
	f.want.inMount(t, m)
	f.want.onServer(t, s)
	m.MustUnmount(t)
	f.want.onServer(t, s)
}

// TestLogFile keeps a file open for long and appends to it, as programs do with their logs.
// What fsync has covered reaches the server although the file is still open, and is there
// after a kill.
func TestLogFile(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		cache := cacheDir(t)
		m := s.mounted(t, cache)
		file, err := os.OpenFile(m.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }() // the mount is killed
		var all []byte
		for i := range 200 {
			line := fmt.Appendf(nil, "%06d %x\n", i, book(uint64(i), 100)[:40])
			all = append(all, line...)
			if _, err := file.Write(line); err != nil {
				t.Fatal(err)
			}
			if i%20 != 19 {
				continue
			}
			if err := file.Sync(); err != nil {
				t.Fatal(err)
			}
			if i%100 == 99 {
				await(t, "the upload of an open file", func() bool { return s.has(t, "log", all) })
			}
		}
		m.Kill()
		s.settle(t)
		m = s.mounted(t, cache)
		expect{"log": all}.inMount(t, m)
		m.appendTo(t, "log", []byte("the end\n"))
		m.MustUnmount(t)
		expect{"log": append(all, "the end\n"...)}.onServer(t, s)
	})
}

// TestFsyncRemote wants the server to have what fsync has covered, also in new directories
// and behind other uploads.
func TestFsyncRemote(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := s.mounted(t, cacheDir(t), "--fsync=remote", "--upload-delay=1h")
		s.slow(5 * time.Millisecond)
		for i := range 30 {
			m.write(t, fmt.Sprint("other", i), book(uint64(i), 20_000))
		}
		m.mkdir(t, "d")
		m.mkdir(t, "d/e")
		data := book(77, 3<<20)
		m.change(t, "d/e/f", os.O_WRONLY|os.O_CREATE, func(f *os.File) error {
			for i, size := range []int{10, 100_000, len(data)} {
				if _, err := f.WriteAt(data[:size], 0); err != nil {
					return err
				}
				if err := f.Sync(); err != nil {
					return err
				}
				if !s.has(t, "d/e/f", data[:size]) {
					t.Errorf("fsync %d has returned, and the server has not the %d bytes", i, size)
				}
			}
			return nil
		})
		if found, _ := s.present(t); len(found) >= 33 {
			t.Errorf("fsync has stored all the %d entries, and not only what it had to", len(found))
		}
		m.MustUnmount(t)
	})
}

// slow makes each change at the server take some time.
func (s *server) slow(d time.Duration) {
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			if uploadCalls(c.API) {
				return &zone.Fault{Delay: d}
			}
			return nil
		})
		return
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if uploads(r) {
			return &efss.Fault{Delay: d}
		}
		return nil
	})
}
