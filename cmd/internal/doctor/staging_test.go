package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestStaging(t *testing.T) {
	dir := t.TempDir()
	d := Doctor{Config: config(t, "write", "through"), CacheDir: filepath.Join(dir, "a/b")}
	only(t, d.staging(), OK, "none: close returns when the server has the file")
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	d.Config = config(t, "write", "back")
	only(t, d.staging(), Warn, " is on tmpfs: what is written takes memory, and is lost when the machine goes down")
	d.Config = config(t, "write", "back", "staging-reserve", "1GiB")
	only(t, d.staging(), Fail, "what is written cannot be kept: only 8MiB is free on its file system, and --staging-reserve leaves 1GiB -> make room, choose another --cache-dir, or use --write=through")
	d.CacheDir = "/proc/none"
	d.Config = config(t, "write", "back", "staging-reserve", "0")
	only(t, d.staging(), Fail, "what is written cannot be kept: only 0 is free")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestChangesThatWait(t *testing.T) {
	root := t.TempDir()
	for i, dir := range []string{root, filepath.Join(root, "some")} {
		d := Doctor{Config: config(t), CacheDir: root}
		if n := d.pending(); n != i {
			t.Errorf("%d changes, want %d", n, i)
		}
		if err := os.MkdirAll(pending.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		store, err := writeback.Open(pending.Dir(dir), writeback.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := store.Wrap(memory.New(memory.Options{}), writeback.Policy{Name: "/a", Tree: "tree"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.MakeDir(t.Context(), "/new", remote.Attrs{}); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, d.cache(), Warn, " of mounts that have ended, and not on a server -> see: meshmount status; a mount of the same branches uploads them")
	}
}
