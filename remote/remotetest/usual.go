package remotetest

import (
	"time"

	"github.com/meshmount/meshmount/remote"
)

// checkUsualModes wants a usual mode to be stored at least where another one is, and entries
// that need none to show it or nothing.
func checkUsualModes(e *env) {
	s, ok := remote.As[remote.AttrSetter](e.b)
	if !ok || !e.caps.StoresMode {
		e.Log("the backend has not this ability")
		return
	}
	usual, other, file, dir := remote.ModesOf(0o022), uint32(0o600), uint32(0o644), uint32(0o755)
	want := func(path, what string, mode uint32, stored bool) {
		e.Helper()
		if now := e.stat(path); now.ModeKnown && now.Mode != mode || stored && !now.ModeKnown {
			e.Errorf("%s: %+v, want mode %o", what, now, mode)
		}
	}
	set := func(path, what string, a remote.Attrs, stored bool) {
		e.Helper()
		if _, err := s.SetAttr(e.ctx, path, a); err != nil {
			e.Errorf("%s: %v", what, err)
		}
		want(path, what, *a.Mode, stored)
	}
	put := func(path, what string, mode *uint32, stored bool) {
		e.Helper()
		opts := remote.PutOptions{Attrs: remote.Attrs{Mode: mode, Usual: usual}}
		if _, err := e.b.Put(e.ctx, path, Bytes([]byte(what)), opts); err != nil {
			e.Errorf("%s: %v", what, err)
		}
		want(path, what, *mode, stored)
	}
	put("/f", "a new file of the usual mode", &file, false)
	put("/f", "written again", &file, false)
	put("/f", "written with another mode", &other, true)
	put("/f", "written with the usual mode after another", &file, false)
	e.put("/g", []byte("g"))
	set("/g", "the usual mode of a file that has none", remote.Attrs{Mode: &file, Usual: usual}, false)
	set("/g", "another", remote.Attrs{Mode: &other, Usual: usual}, true)
	set("/g", "the usual one instead of it", remote.Attrs{Mode: &file, Usual: usual}, true)
	for _, made := range []bool{false, true} {
		when := time.Date(2010, 11, 12, 13, 14, 15, 0, time.UTC)
		path := map[bool]string{false: "/d", true: "/made"}[made]
		e.mkdir(path)
		set(path, "time and usual mode of a directory", remote.Attrs{MTime: &when, Mode: &dir, Usual: usual, Made: made}, false)
		if now := e.stat(path); e.caps.StoresMTime && now.MTime.Unix() != when.Unix() {
			e.Errorf("a directory has %+v, want %v", now, when)
		}
		set(path, "the mode of a file for a directory", remote.Attrs{Mode: &file, Usual: usual}, true)
		set(path, "the usual mode instead", remote.Attrs{Mode: &dir, Usual: usual}, true)
		if now := e.stat(path); e.caps.StoresMTime && now.MTime.Unix() != when.Unix() {
			e.Errorf("after its mode was set a directory has %+v, want %v", now, when)
		}
	}
}
