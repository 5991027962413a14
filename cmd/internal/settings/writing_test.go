package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func TestWritingDefaults(t *testing.T) {
	c := resolve(t, Input{Branches: []string{"a=davs://h/p", "z=irods://me@h/z/c"}, Dir: "/"})
	if c.StagingSize != 10*GiB || c.StagingReserve != 256*MiB || c.UploadLimit != 0 || c.DownloadLimit != 0 || c.DrainTimeout != 5*time.Minute {
		t.Errorf("%+v", c.Settings)
	}
	for i, want := range []struct {
		uploads int
		early   Size
	}{{16, 32 * MiB}, {8, 8 * MiB}} {
		if b := c.Branches[i]; b.Uploads != want.uploads || b.UploadDelay != time.Second || b.EarlyUpload != want.early {
			t.Errorf("%+v", b)
		}
	}
	// What fsync does is told as it is.
	for _, w := range []struct{ write, fsync string }{{WriteThrough, FsyncRemote}, {WriteBack, FsyncLocal}} {
		c := resolve(t, Input{Flags: flags(t, "write="+w.write), Branches: []string{"a=davs://h/p"}, Dir: "/"})
		if c.Settings.Write != w.write || c.Fsync != w.fsync {
			t.Errorf("%s: %s %s", w.write, c.Settings.Write, c.Fsync)
		}
	}
}

func TestWritingOfOneBranch(t *testing.T) {
	file := config(t, 0o600, "write = 'back'\nupload-limit = '1MB'\n[branch.a]\nurl='davs://h/p'\nupload-delay='250ms'\nearly-upload=0\n[branch.b]\nurl='davs://h/q'\n")
	c := resolve(t, Input{Flags: flags(t, "config="+file, "uploads=b=3", "fsync=remote"), Environ: []string{"MESHMOUNT_STAGING_SIZE=1g"}, Dir: "/"})
	a, b := c.Branches[0], c.Branches[1]
	if a.UploadDelay != 250*time.Millisecond || a.EarlyUpload != 0 || a.Uploads != 16 || b.Uploads != 3 || b.EarlyUpload != 32*MiB {
		t.Errorf("%+v\n%+v", a, b)
	}
	if c.Settings.Write != WriteBack || c.Fsync != FsyncRemote || c.UploadLimit != 1e6 || c.StagingSize != GiB {
		t.Errorf("%+v", c.Settings)
	}
	var out strings.Builder
	if err := c.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`write = "back"  # config `, `fsync = "remote"  # command line`, `staging-size = "1GiB"  # environment`, `upload-limit = "1000000"`, `early-upload = "0"`, "uploads = 3  # command line --uploads"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

func TestWritingGivesWay(t *testing.T) {
	c := resolve(t, Input{Flags: flags(t, "max-connections=a=5", "max-connections=z=1", "staging-size=8MiB", "cache-reserve=0"),
		Branches: []string{"a=davs://h/p", "z=irods://me@h/z/c", "y=irods://me@h/z/d"}, Dir: "/"})
	for i, want := range []int{5, 4, 8} {
		if b := c.Branches[i]; b.Uploads != want || b.EarlyUpload != 4*MiB {
			t.Errorf("%s: %d uploads, want %d; early from %s", b.Name, b.Uploads, want, b.EarlyUpload)
		}
	}
}

func TestArchives(t *testing.T) {
	c := resolve(t, Input{Flags: flags(t, "archive=keep", "archive=b=off"), Branches: []string{"a=davs://h/p", "b=davs://h/q"}, Dir: "/"})
	if a, b := c.Branches[0], c.Branches[1]; a.Archive != ArchiveKeep || a.BatchFileSize != MiB || b.Archive != ArchiveOff || b.BatchFileSize != 0 {
		t.Errorf("%+v\n%+v", a, b)
	}
	c = resolve(t, Input{Branches: []string{"a=davs://h/p"}, Dir: "/"})
	if c.Branches[0].Archive != ArchiveExpand {
		t.Errorf("%+v", c.Branches[0])
	}
}

func TestContradictionsOfWriting(t *testing.T) {
	for _, c := range []struct {
		args   []string
		branch string
		code   exit.Code
		want   string
	}{
		{[]string{"fsync=local", "write=through"}, "a=davs://h/p", exit.Usage, "fsync is local and write is through: then fsync returns when the server has the file; give --write=back, or leave --fsync away"},
		{[]string{"uploads=9", "max-connections=8"}, "a=davs://h/p", exit.Usage, "9 uploads at a time need 9 connections, and max-connections is 8; give --max-connections=9 or more, or fewer uploads"},
		{[]string{"uploads=9", "max-connections=2"}, "a=irods://me@h/z/c", exit.Usage, "9 uploads at a time need 3 connections, and max-connections is 2"},
		{[]string{"early-upload=8MiB", "staging-size=8MiB"}, "a=davs://h/p", exit.Usage, "early-upload 8MiB is more than half of staging-size 8MiB; give --staging-size=16MiB or more, or a smaller --early-upload"},
		{[]string{"write=back", "staging-reserve=2GiB", "cache-reserve=1GiB"}, "a=davs://h/p", exit.Usage, "staging-reserve 2GiB is more than cache-reserve 1GiB: the cache would take the space for what is written; give --cache-reserve=2GiB or more"},
		{[]string{"write=never"}, "a=davs://h/p", exit.Usage, "is none of back, through"},
		{[]string{"fsync=never"}, "a=davs://h/p", exit.Usage, "is none of local, remote"},
		{[]string{"staging-size=1KiB"}, "a=davs://h/p", exit.Usage, "1KiB is less than 1MiB"},
		{[]string{"upload-limit=100"}, "a=davs://h/p", exit.Usage, "100 is less than 16KiB"},
		{[]string{"uploads=0"}, "a=davs://h/p", exit.Usage, "at least 1"},
		{[]string{"batch-file-size=2MiB", "batch-bytes=1MiB"}, "a=davs://h/p", exit.Usage, "batch-file-size 2MiB is more than batch-bytes 1MiB; give --batch-bytes=2MiB or more, or a smaller --batch-file-size"},
		{[]string{"archive=zip"}, "a=davs://h/p", exit.Usage, "is none of expand, keep, off"},
		{[]string{"early-upload=1KiB"}, "a=davs://h/p", exit.Usage, "1KiB is less than 1MiB"},
	} {
		_, err := Resolve(Input{Flags: flags(t, c.args...), Branches: []string{c.branch}, Dir: "/"})
		checkError(t, err, c.code, c.want)
	}
	file := config(t, 0o600, "fsync = 'local'\nwrite = 'through'\n[branch.a]\nurl='davs://h/p'\n")
	_, err := Resolve(Input{Flags: flags(t, "config="+file), Dir: "/"})
	checkError(t, err, exit.Config, "fsync is local and write is through")
	// The cache's reserve does not matter without the cache.
	c := resolve(t, Input{Flags: flags(t, "write=back", "staging-reserve=2GiB", "cache-reserve=1GiB", "cache=off"), Branches: []string{"a=davs://h/p"}, Dir: "/"})
	if c.StagingReserve != 2*GiB {
		t.Errorf("%+v", c.Settings)
	}
}
