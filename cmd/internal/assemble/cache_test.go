package assemble

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

var quiet = slog.New(slog.DiscardHandler)

// open opens the cache below dir and has it closed.
func open(t *testing.T, dir string, args ...string) (*cache.Store, error, error) {
	t.Helper()
	store, warning, err := OpenCache(resolve(t, args...), Memory{}, dir, quiet)
	if store != nil {
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return store, warning, err
}

func TestCacheIsSharedBySuccessiveMounts(t *testing.T) {
	dir := t.TempDir()
	config := resolve(t, "cache-size=64MiB", "cache-reserve=0")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	server := memory.New(memory.Options{})
	entry, err := server.Put(t.Context(), "/f", remotetest.Bytes(content), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ref := remote.Ref{Path: "/f", Version: entry.Version, Size: entry.Size}
	for mount := range 2 {
		store, warning, err := OpenCache(config, Memory{}, dir, quiet)
		if store == nil || warning != nil || err != nil {
			t.Fatalf("%v, %v, %v", store, warning, err)
		}
		c := store.Wrap(server, CachePolicy(&config.Branches[0], Split(256*mib, 0, settings.MiB), 2, 1<<30))
		if got := c.HasLocal(ref, 0, ref.Size); (got == ref.Size) != (mount == 1) {
			t.Errorf("mount %d: %d bytes are here", mount, got)
		}
		if err := c.Warm(t.Context(), ref, 0, ref.Size); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoCache(t *testing.T) {
	dir := t.TempDir()
	if store, warning, err := open(t, dir, "cache=off"); store != nil || warning != nil || err != nil {
		t.Errorf("%v, %v, %v", store, warning, err)
	}
	if _, err := os.Lstat(BlocksDir(dir)); err == nil {
		t.Error("a cache was made nevertheless")
	}
}

func TestCacheThatCannotBeOpened(t *testing.T) {
	foreign := t.TempDir()
	newer := t.TempDir()
	shared := t.TempDir()
	for _, err := range []error{
		os.Mkdir(BlocksDir(foreign), 0o700), os.WriteFile(filepath.Join(BlocksDir(foreign), "thesis.tex"), nil, 0o600),
		os.Mkdir(BlocksDir(newer), 0o700), os.WriteFile(filepath.Join(BlocksDir(newer), "format"), []byte("meshmount-blocks 99 1 1\n"), 0o600),
		os.Mkdir(BlocksDir(shared), 0o700), os.Chmod(BlocksDir(shared), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		foreign: `it holds "thesis.tex"`, newer: "it has version 99", shared: "is open to others", "/proc/nowhere": "no such file",
	} {
		store, warning, err := open(t, dir)
		if store != nil || err != nil || warning == nil || !strings.Contains(warning.Error(), want) || !strings.Contains(warning.Error(), "reads are not cached on disk: ") {
			t.Errorf("%s: %v, %v, %v; want %s", dir, store, warning, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(BlocksDir(foreign), "thesis.tex")); err != nil {
		t.Error("what is not ours was deleted:", err)
	}
}

func TestCacheInUse(t *testing.T) {
	dir := t.TempDir()
	if _, warning, err := open(t, dir, "cache-size=64MiB", "cache-reserve=0"); warning != nil || err != nil {
		t.Fatal(warning, err)
	}
	store, warning, err := open(t, dir, "cache-size=64MiB")
	if store != nil || err != nil || warning == nil || !strings.Contains(warning.Error(), "is in use by process ") {
		t.Errorf("default directory: %v, %v, %v", store, warning, err)
	}
	_, _, err = open(t, dir, "cache-size=64MiB", "cache-dir="+dir)
	if exit.CodeOf(err) != exit.CacheBusy || !strings.Contains(err.Error(), "is in use by process ") {
		t.Errorf("given directory: %v", err)
	}
}

func TestCacheWithoutReserve(t *testing.T) {
	store, warning, err := open(t, t.TempDir(), "cache-size=64MiB", "cache-reserve=1048576TiB")
	if err != nil || warning == nil || !strings.Contains(warning.Error(), "make room or choose another --cache-dir") {
		t.Fatalf("%v, %v", warning, err)
	}
	// It may be used all the same: it serves nothing.
	server := memory.New(memory.Options{})
	entry, err := server.Put(t.Context(), "/f", remotetest.Bytes([]byte("text")), remote.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	ref := remote.Ref{Path: "/f", Version: entry.Version, Size: entry.Size}
	if n, err := store.Wrap(server, cache.Policy{Branch: "b"}).ReadAt(t.Context(), ref, p, 0); n != 4 || err != nil || string(p) != "text" {
		t.Errorf("%d, %v, %q", n, err, p)
	}
}

func TestCacheSize(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * st.Bsize
	got, err := CacheSize(resolve(t), BlocksDir(dir))
	if err != nil || got > 10<<30 || got > free/2+1<<30 {
		t.Errorf("%d of %d free, %v", got, free, err)
	}
	if got, err := CacheSize(resolve(t, "cache-size=7TiB"), BlocksDir(dir)); err != nil || got != 7<<40 {
		t.Errorf("given: %d, %v", got, err)
	}
}

func TestTreeHoldsWhoAndWhere(t *testing.T) {
	c := resolve(t)
	if a, z := Tree(&c.Branches[0]), Tree(&c.Branches[1]); a != "davs://h/p as me" || z != "irods://h:1247/z/c as me#z" {
		t.Errorf("%q, %q", a, z)
	}
}

func TestLargeFilesAreStreams(t *testing.T) {
	p := CachePolicy(&resolve(t).Branches[0], Split(256*mib, 0, settings.MiB), 2, 1000)
	if p.Hint(remote.Ref{Size: 1001}) != cache.Stream || p.Hint(remote.Ref{Size: 1000}) != cache.Normal || p.Hint(remote.Ref{Size: -1}) != cache.Normal {
		t.Error("hints")
	}
	if p.PieceMemory != 8*mib {
		t.Errorf("%d bytes for pieces", p.PieceMemory)
	}
}
