package webdav

import (
	"strconv"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

func TestCutTag(t *testing.T) {
	for in, want := range map[string]struct {
		tag  string
		weak bool
	}{
		`"abc"`: {"abc", false}, `W/"abc"`: {"abc", true}, ` "a:b/c" `: {"a:b/c", false}, `"ü"`: {"ü", false},
		``: {}, `abc`: {}, `""`: {}, `"a b"`: {}, `"a"b"`: {}, "\"a\x01\"": {}, `w/"abc"`: {}, `"`: {}, `W/`: {},
	} {
		if tag, weak := cutTag(in); tag != want.tag || weak != want.weak {
			t.Errorf("%q: %q, %v", in, tag, weak)
		}
	}
}

// TestVersions goes through the rules of the package documentation.
func TestVersions(t *testing.T) {
	mtime := time.Unix(1_800_000_000, 0)
	up := func(after time.Duration) string { return strconv.FormatInt(mtime.Add(after).Unix(), 10) }
	const hash = "0123456789abcdef0123456789abcdef"
	for name, c := range map[string]struct {
		dialect     string
		p           props
		age         time.Duration // of the mtime at the time of the look
		version     string
		provisional bool
	}{
		"nextcloud, settled":            {Nextcloud, props{etag: `"t"`, uploadTime: up(0)}, time.Hour, "t", false},
		"nextcloud, fresh":              {Nextcloud, props{etag: `"t"`, uploadTime: up(0)}, 2 * time.Second, "t", true},
		"nextcloud, no upload time":     {Nextcloud, props{etag: `"t"`, uploadTime: "0"}, time.Hour, "t", false},
		"nextcloud, slow upload":        {Nextcloud, props{etag: `"t"`, uploadTime: up(2 * time.Second)}, 4 * time.Second, "t", true},
		"nextcloud, client's time":      {Nextcloud, props{etag: `"t"`, uploadTime: up(time.Hour)}, 2 * time.Hour, "t up:" + up(time.Hour), false},
		"nextcloud, the same, fresh":    {Nextcloud, props{etag: `"t"`, uploadTime: up(time.Hour)}, time.Hour, "t up:" + up(time.Hour), true},
		"nextcloud, time in the future": {Nextcloud, props{etag: `"t"`, uploadTime: up(-time.Hour)}, -time.Minute, "t up:" + up(-time.Hour), false},
		"ocis":                          {OCIS, props{etag: `"t"`, checksums: "SHA1:AB MD5:cd"}, 0, "t sha1:ab", false},
		"ocis, no checksum":             {OCIS, props{etag: `"t"`}, time.Second, "t", true},
		"reva":                          {Reva, props{etag: `"t"`}, time.Hour, "t", false},
		"mod_dav, weak":                 {ModDAV, props{etag: `W/"t"`}, time.Hour, "t", true},
		"mod_dav, strong but fresh":     {ModDAV, props{etag: `"t"`}, time.Second, "t", true},
		"mod_dav, settled":              {ModDAV, props{etag: `"t"`}, 3 * time.Second, "t", false},
		"rclone, hash":                  {Rclone, props{etag: `"` + hash + `"`}, 0, hash, false},
		"rclone, time and size":         {Rclone, props{etag: `"18ea2d2a21bbd1163"`}, 0, "18ea2d2a21bbd1163", true},
		"xrootd":                        {XRootD, props{}, time.Hour, " m1800000000-7", false},
		"xrootd, fresh":                 {XRootD, props{}, time.Second, " m1800000000-7", true},
		"unknown":                       {Unknown, props{etag: `"t"`}, time.Hour, "t", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Backend{}
			b.traits, _ = rowOf(c.dialect)
			c.p.length, c.p.modified = "7", mtime.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
			f, err := b.view("/f", &response{found: true, props: c.p}, mtime.Add(c.age))
			if err != nil || f.Version != c.version || f.Provisional != c.provisional {
				t.Errorf("version %q, provisional %v, %v", f.Version, f.Provisional, err)
			}
		})
	}
}

// TestNaturalTime is the argument behind leaving the time of upload out: whoever
// overwrites with the same tag after a settled look comes out with another version.
func TestNaturalTime(t *testing.T) {
	b := &Backend{}
	b.traits, _ = rowOf(Nextcloud)
	look := func(mtime, up, now int64) found {
		p := props{etag: `"same"`, length: "1", uploadTime: strconv.FormatInt(up, 10),
			modified: time.Unix(mtime, 0).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		f, err := b.view("/f", &response{found: true, props: p}, time.Unix(now, 0))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const mtime = 1_800_000_000
	for up1 := int64(mtime - 5); up1 <= mtime+5; up1++ {
		for now := up1; now <= up1+10; now++ {
			first := look(mtime, up1, now)
			if first.Provisional {
				continue
			}
			for up2 := now; up2 <= now+10; up2++ {
				if second := look(mtime, up2, up2+20); second.Version == first.Version {
					t.Errorf("uploaded at %d, seen at %d, overwritten at %d: the version is %q both times", up1-mtime, now-mtime, up2-mtime, first.Version)
				}
			}
		}
	}
}

// TestStoredAttrs: our property counts only for the content it was written for.
func TestStoredAttrs(t *testing.T) {
	b := &Backend{}
	b.traits, _ = rowOf(ModDAV)
	native := time.Unix(1_800_000_000, 0).UTC()
	old := time.Unix(1_000_000_000, 5)
	see := func(a attr, tag, length string) remote.Entry {
		p := props{etag: `"` + tag + `"`, length: length, attr: a.encode(), modified: native.Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		f, err := b.view("/f", &response{found: true, props: p}, native.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return f.Entry
	}
	kept := attr{mode: 0o600, hasMode: true, mtime: old, tag: "t1", size: 3}
	if e := see(kept, "t1", "3"); !e.MTime.Equal(old) || e.Mode != 0o600 || !e.ModeKnown {
		t.Errorf("not taken: %+v", e)
	}
	for _, e := range []remote.Entry{see(kept, "t2", "3"), see(kept, "t1", "4")} {
		if !e.MTime.Equal(native) || e.Mode != 0o600 {
			t.Errorf("another content has %+v", e)
		}
	}
	link := attr{link: "a/b"}
	if e := see(link, "t1", "3"); e.Type != remote.Symlink || e.Target != "a/b" || e.Size != 3 {
		t.Errorf("the link is %+v", e)
	}
	if e := see(link, "t1", "4"); e.Type != remote.File || e.Target != "" {
		t.Errorf("a longer file is %+v", e)
	}
}

func TestAccess(t *testing.T) {
	nc, oc := &Backend{}, &Backend{}
	nc.traits, _ = rowOf(Nextcloud)
	oc.traits, _ = rowOf(OCIS)
	if a := nc.access(""); !a.Can(remote.AccessWrite) {
		t.Error("nothing told is taken for a refusal")
	}
	for _, c := range []struct {
		b     *Backend
		perms string
		can   remote.Access
		not   remote.Access
	}{
		{nc, "SRMG", remote.AccessRead, remote.AccessWrite},
		{nc, "SRM", 0, remote.AccessRead},
		{nc, "RGDNVW", remote.AccessRead | remote.AccessWrite | remote.AccessDelete | remote.AccessRename, remote.AccessCreate},
		{nc, "GCK", remote.AccessCreate | remote.AccessMkdir, remote.AccessDelete},
		{oc, "RDNVCKZP", remote.AccessRead | remote.AccessCreate | remote.AccessMkdir, remote.AccessWrite},
	} {
		a := c.b.access(c.perms)
		if !a.Can(c.can) || c.not != 0 && a.Can(c.not) {
			t.Errorf("%q gives %b", c.perms, a)
		}
	}
}

func TestChecksums(t *testing.T) {
	const v = "SHA1:5506E508 MD5:e4a7 ADLER32:23770529 junk SHA256:zz"
	if got := strongest(v); got != (remote.Checksum{Algorithm: "sha1", Hex: "5506e508"}) {
		t.Errorf("strongest %v", got)
	}
	if checksum(v, "sha256") != "" || checksum(v, "md5") != "e4a7" {
		t.Error("a value that is no digest was taken, or one that is was not")
	}
}

func TestQuota(t *testing.T) {
	for s, want := range map[string]int64{"-3": -1, "-2": -1, "": -1, "x": -1, "0": 0, "123": 123} {
		if got := quotaOf(s); got != want {
			t.Errorf("%q: %d", s, got)
		}
	}
}
