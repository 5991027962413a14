package remotetest

import (
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// abilityChecks are about optional abilities; a backend without one passes.
var abilityChecks = []check{
	{"SetAttr", checkSetAttr},
	{"SetAttrBatch", checkSetAttrBatch},
	{"SetAttrBatchErrors", checkSetAttrBatchErrors},
	{"UsualModes", checkUsualModes},
	{"Symlink", checkSymlink},
	{"Stream", checkStream},
	{"Usage", checkUsage},
	{"URL", checkURL},
	{"Access", checkAccess},
	{"Checksums", checkChecksums},
}

func checkSetAttr(e *env) {
	s, ok := remote.As[remote.AttrSetter](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	e.put("/f", []byte("content"))
	e.mkdir("/d")
	when := time.Date(2010, 11, 12, 13, 14, 15, 0, time.UTC)
	mode := uint32(0o750)
	for _, path := range []string{"/f", "/d"} {
		got, err := s.SetAttr(e.ctx, path, remote.Attrs{MTime: &when, Mode: &mode})
		if err != nil {
			e.Errorf("setattr of %s: %v", path, err)
			continue
		}
		now := e.stat(path)
		e.sameEntry("setattr and stat", got, now)
		if !got.MTime.Equal(now.MTime) || got.Mode != now.Mode || got.ModeKnown != now.ModeKnown {
			e.Errorf("setattr of %s returned %+v, stat %+v", path, got, now)
		}
		if path == "/f" {
			e.wantAttrs("setattr", now, when, mode)
		}
	}
	e.wantContent("/f", []byte("content"))
	later := when.Add(time.Hour)
	if got, err := s.SetAttr(e.ctx, "/f", remote.Attrs{MTime: &later}); err != nil {
		e.Errorf("setattr of the time: %v", err)
	} else {
		e.wantAttrs("setattr of the time only", got, later, mode)
	}
	if got, err := s.SetAttr(e.ctx, "/f", remote.Attrs{}); err != nil {
		e.Errorf("setattr of nothing: %v", err)
	} else {
		e.wantAttrs("setattr of nothing", got, later, mode)
	}
	_, err := s.SetAttr(e.ctx, "/none", remote.Attrs{MTime: &when})
	e.wantKind(err, "setattr of nothing", remote.NotExist)
}

func checkSymlink(e *env) {
	s, ok := remote.As[remote.Symlinker](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	if !e.caps.StoresSymlinks {
		_, err := s.Symlink(e.ctx, "/l", "f")
		e.wantKind(err, "symlink where none is kept", remote.Unsupported)
		e.wantNothing("/l")
		return
	}
	for name, target := range map[string]string{
		"rel": "f", "abs": "/somewhere/else", "up": "../../x y", "odd": `ü %41 & < " #`, "long": strings.Repeat("t/", 500),
	} {
		path := "/" + name
		made, err := s.Symlink(e.ctx, path, target)
		if err != nil {
			e.Errorf("symlink to %q: %v", target, err)
			continue
		}
		now := e.stat(path)
		e.sameEntry("symlink and stat", made, now)
		e.sameEntry("stat and list of a link", now, e.list("/")[name])
		if now.Type != remote.Symlink || now.Target != target {
			e.Errorf("the link is %+v", now)
		}
	}
	e.mkdir("/d")
	e.rename("/rel", "/d/moved")
	if got := e.stat("/d/moved"); got.Type != remote.Symlink || got.Target != "f" {
		e.Errorf("the renamed link is %+v", got)
	}
	_, err := s.Symlink(e.ctx, "/abs", "other")
	e.wantKind(err, "symlink over a link", remote.Exist)
	_, err = s.Symlink(e.ctx, "/d", "other")
	e.wantKind(err, "symlink over a directory", remote.Exist, remote.IsDir)
	_, err = s.Symlink(e.ctx, "/none/l", "other")
	e.wantKind(err, "symlink without a parent", remote.NotExist)
	_, err = e.b.Put(e.ctx, "/abs", Bytes(nil), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	if e.caps.Create != remote.GuardNone {
		e.wantKind(err, "exclusive create over a link", remote.Exist)
	}
	e.remove("/d/moved", remote.Symlink)
	e.wantNames("/d")
}

func checkStream(e *env) {
	o, ok := remote.As[remote.Opener](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	data := Pattern(e.LargeFile, 9)
	made := e.versioned(e.put("/f", data))
	got, err := readStream(e.ctx, o, remote.Ref{Path: "/f", Version: made.Version, Size: made.Size})
	if err != nil || string(got) != string(data) {
		e.Errorf("stream: %s, %v", difference(got, data), err)
	}
	r, err := o.Open(e.ctx, remote.Ref{Path: "/f", Size: -1})
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil || string(head) != string(data[:1000]) {
		e.Errorf("the first bytes of the stream: %v", err)
	}
	if err := r.Close(); err != nil {
		e.Errorf("close of a stream in the middle: %v", err)
	}
	if n, err := r.Read(head); err == nil || errors.Is(err, io.EOF) {
		e.Errorf("a closed stream gave %d bytes, %v", n, err)
	}
	e.put("/f", []byte("still writable"))
}

func checkUsage(e *env) {
	u, ok := remote.As[remote.Usager](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	e.put("/f", Pattern(100_000, 1))
	got, err := u.Usage(e.ctx)
	if err != nil {
		e.Fatalf("usage: %v", err)
	}
	if got.Used < -1 || got.Available < -1 {
		e.Errorf("usage is %+v", got)
	}
}

func checkURL(e *env) {
	l, ok := remote.As[remote.Locator](e.b)
	if !ok {
		e.Log("the backend has not this ability")
		return
	}
	seen := map[string]string{}
	for _, path := range []string{"/", "/a", "/a b", "/a%20b", "/a/b", "/a%2Fb", "/a?b", "/a#b", "/ü"} {
		text := l.URL(path)
		u, err := url.Parse(text)
		switch {
		case err != nil:
			e.Errorf("the address of %q: %v", path, err)
		case u.User != nil && strings.Contains(u.User.String(), ":"):
			e.Errorf("the address of %q holds a password", path)
		case path != "/" && !strings.HasSuffix(u.Path, path):
			e.Errorf("the address of %q is %q", path, text)
		}
		if other, double := seen[text]; double {
			e.Errorf("%q and %q have one address %q", path, other, text)
		}
		seen[text] = path
	}
}

// checkAccess wants that what the server shows as allowed is allowed.
func checkAccess(e *env) {
	e.mkdir("/d")
	e.put("/d/f", []byte("f"))
	for path, want := range map[string]remote.Access{
		"/d":   remote.AccessRead | remote.AccessCreate | remote.AccessMkdir,
		"/d/f": remote.AccessRead | remote.AccessWrite | remote.AccessDelete | remote.AccessRename,
	} {
		if got := e.stat(path); !got.Access.Can(want) {
			e.Errorf("%s: the access is %b, but %b was granted", path, got.Access, want)
		}
	}
}

func checkChecksums(e *env) {
	for _, text := range []string{"one", "another", ""} {
		data := []byte(text)
		for _, got := range []remote.Entry{e.put("/f", data), e.stat("/f"), e.list("/")["f"]} {
			if got.Checksum == (remote.Checksum{}) {
				continue
			}
			h := remote.NewHash(got.Checksum.Algorithm)
			if h == nil {
				e.Logf("unknown algorithm %q", got.Checksum.Algorithm)
				continue
			}
			h.Write(data)
			if want := hexSum(h); got.Checksum.Hex != want {
				e.Errorf("checksum of %q is %+v, want %s", text, got.Checksum, want)
			}
		}
	}
}
