package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
)

// config resolves options for a branch.
func config(t *testing.T, args ...string) *settings.Config {
	t.Helper()
	in := settings.Input{Branches: []string{"a=davs://me@h/p"}, Dir: "/"}
	for i := 0; i < len(args); i += 2 {
		o, ok := settings.Lookup(args[i])
		if !ok {
			t.Fatalf("no option %s", args[i])
		}
		in.Flags = append(in.Flags, settings.Given{Option: o, Text: args[i+1], Where: "--" + args[i]})
	}
	c, err := settings.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// only wants one finding.
func only(t *testing.T, list []Finding, status Status, text string) {
	t.Helper()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	check(t, list[0], status, text)
}

// blocks are the findings of d but for that the files of the tests are in memory, if they are.
func blocks(d *Doctor) []Finding {
	return slices.DeleteFunc(d.blocks(), func(f Finding) bool { return strings.Contains(f.Detail, " is on tmpfs: ") })
}

func TestBlockCache(t *testing.T) {
	dir := t.TempDir()
	small := []string{"cache-size", "64MiB", "cache-reserve", "0"}
	d := Doctor{Config: config(t, small...), CacheDir: filepath.Join(dir, "a/b")}
	only(t, blocks(&d), OK, "up to 64.0 MiB, leaving 0 B free")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	d.Config = config(t, "cache", "off")
	only(t, blocks(&d), OK, "off")
	d.Config = config(t, "cache-size", "1000TiB")
	only(t, blocks(&d), Warn, "it will stay smaller -> make room, give a smaller --cache-size or --cache-reserve")
	d.Config, d.CacheDir = config(t, small...), "/proc/none"
	only(t, blocks(&d), Warn, "cannot reserve space for files: ")
}

func TestBlockCacheOnASmallFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=700"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	d := Doctor{Config: config(t), CacheDir: dir}
	list := d.blocks()
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	check(t, list[0], Warn, "reads will not be cached: only 8MiB is free on its file system")
	check(t, list[1], Warn, " is on tmpfs: what is cached there takes memory")
}

func TestBlockCacheInUse(t *testing.T) {
	dir := t.TempDir()
	h, err := state.Self("/mnt/x", dir)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := state.Acquire(h)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Release() }()
	d := Doctor{Config: config(t, "cache-size", "64MiB", "cache-reserve", "0"), CacheDir: dir}
	list := blocks(&d)
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	check(t, list[1], Warn, "mounted on /mnt/x -> choose another --cache-dir")
}

func TestPlaceOfTheCache(t *testing.T) {
	for magic, want := range map[int64]string{unix.NFS_SUPER_MAGIC: "/x is on NFS: what is cached there goes over the network again", 0x0BD00BD3: "on Lustre: "} {
		f, odd := placed("block cache", "/x", magic)
		check(t, f, Warn, want)
		if !odd {
			t.Errorf("%x is not odd", magic)
		}
	}
	if _, odd := placed("block cache", "/x", unix.EXT4_SUPER_MAGIC); odd {
		t.Error("ext4 is odd")
	}
}

func TestMemory(t *testing.T) {
	d := Doctor{Config: config(t)}
	check(t, d.memoryUnder(0), OK, "up to 256.0 MiB, of which 56.0 MiB for what is read ahead")
	check(t, d.memoryUnder(128<<20), OK, "up to 64.0 MiB, of which 8.0 MiB for what is read ahead; the control group allows 128.0 MiB in all")
	if d.Config.Branches[0].ReadAhead != 32*settings.MiB {
		t.Error("the doctor has changed the settings")
	}
	d.Config = config(t, "read-ahead", "48MiB")
	check(t, d.memoryUnder(128<<20), Fail, "the control group leaves 64MiB of memory")
}
