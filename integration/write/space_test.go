package write_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// smallDisk mounts a tmpfs and returns its directory.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := harness.Detach(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the space that is left on a disk, until free is called.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	file, err := os.CreateTemp(disk, "ballast")
	if err != nil {
		t.Fatal(err)
	}
	name := file.Name()
	defer func() { _ = file.Close() }()
	end := int64(0)
	for size := int64(64 << 20); size >= 1; size /= 4 {
		for err = nil; err == nil; end += size {
			err = unix.Fallocate(int(file.Fd()), 0, end, size)
		}
		if end -= size; !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// noSpace tells whether a program was told that there is no space, and nothing else.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// TestStagingSize writes more than may be staged while uploads go on: writers wait, nobody
// gets an error. While none go on, they get ENOSPC.
func TestStagingSize(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := s.mounted(t, cacheDir(t), "--cache=off", "--staging-size=8MiB")
		want := expect{}
		for i := range 20 {
			name := fmt.Sprint("f", i)
			want[name] = book(uint64(i), 2<<20)
			m.write(t, name, want[name])
			if staged := m.status(t).Staged; staged > 9<<20 {
				t.Errorf("%d bytes are staged", staged)
			}
		}
		m.flush(t)
		want.onServer(t, s)
		must(t, "pause", m.Dir)
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			name := fmt.Sprint("g", i)
			if err = os.WriteFile(m.path(name), book(uint64(i), 2<<20), 0o644); err == nil {
				want[name] = book(uint64(i), 2<<20)
			} else if err := os.Remove(m.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
		if !noSpace(err) {
			t.Errorf("beyond --staging-size, without uploads: %v", err)
		}
		must(t, "resume", m.Dir)
		m.flush(t)
		m.MustUnmount(t)
		want.onServer(t, s)
	})
}

// fullServer has a server say that it is full.
func (s *server) fullServer() *gate {
	g := newGate()
	if s.zone != nil {
		s.zone.SetFaults(func(c zone.Call) *zone.Fault {
			if uploadCalls(c.API) && g.pass() {
				return &zone.Fault{Code: wire.CodeQuota}
			}
			return nil
		})
		return g
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if uploads(r) && g.pass() {
			return &efss.Fault{Status: http.StatusInsufficientStorage}
		}
		return nil
	})
	return g
}

// TestQuota has the server run out of space. Once that is known, programs are told; what was
// acknowledged before arrives when there is space again.
func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		m := s.mounted(t, cacheDir(t))
		g := s.fullServer()
		g.on.Store(true)
		m.write(t, "one", book(1, 100_000))
		await(t, "refusal", func() bool { return g.hits.Load() > 0 })
		await(t, "ENOSPC or EDQUOT", func() bool {
			err := os.WriteFile(m.path("probe"), book(2, 1000), 0o644)
			if err != nil && !noSpace(err) {
				t.Fatal(err)
			}
			return err != nil
		})
		now := m.status(t)
		if len(now.Held) == 0 || now.Branches[0].Held == "" || now.Pending == 0 {
			t.Errorf("status does not tell that the branch is held: %+v", now)
		}
		if got, err := os.ReadFile(m.path("one")); err != nil || len(got) != 100_000 {
			t.Errorf("what waits: %d bytes, %v", len(got), err)
		}
		g.end()
		await(t, "the end of EDQUOT", func() bool {
			must(t, "retry", "--all", "--mount="+m.Dir)
			return os.WriteFile(m.path("probe"), book(3, 2000), 0o644) == nil
		})
		m.flush(t)
		m.MustUnmount(t)
		expect{"one": book(1, 100_000), "probe": book(3, 2000)}.onServer(t, s)
	})
}

// TestQuotaOfShare fills a share with a quota and makes space by removing a file in the mount.
func TestQuotaOfShare(t *testing.T) {
	t.Parallel()
	s := startShare(t, efss.Options{Dialect: efss.Nextcloud, Users: []efss.User{{Name: "alice", AppPassword: secret, Quota: 3 << 20}}})
	m := s.mounted(t, cacheDir(t))
	m.write(t, "old", book(1, 2<<20))
	m.flush(t)
	var told error
	want, tried := expect{}, 0
	for ; tried < 2000 && told == nil; tried++ {
		name := fmt.Sprint("f", tried)
		if told = os.WriteFile(m.path(name), book(uint64(tried), 100_000), 0o644); told == nil {
			want[name] = book(uint64(tried), 100_000)
		}
	}
	if !noSpace(told) {
		t.Fatalf("a share that is full: %v", told)
	}
	if err := os.Remove(m.path("old")); err != nil {
		t.Fatal(err)
	}
	must(t, "retry", "--all", "--mount="+m.Dir)
	for name := range want { // more was acknowledged than there is room for now
		if len(want) <= 20 {
			break
		}
		if err := os.Remove(m.path(name)); err != nil {
			t.Fatal(err)
		}
		delete(want, name)
	}
	m.flush(t)
	refused := fmt.Sprint("f", tried-1) // may have been made, and what it holds was not acknowledged
	if err := os.Remove(m.path(refused)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	m.MustUnmount(t)
	want.onServer(t, s)
}
