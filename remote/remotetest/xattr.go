package remotetest

import (
	"fmt"
	"maps"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// xattrChecks are about remote.Xattrer; a backend without it passes.
var xattrChecks = []check{
	{"Xattrs", xattrCheck(checkXattrs)},
	{"XattrModes", xattrCheck(checkXattrModes)},
	{"XattrErrors", xattrCheck(checkXattrErrors)},
	{"XattrBytes", xattrCheck(checkXattrBytes)},
	{"XattrLife", xattrCheck(checkXattrLife)},
}

// xattrEnv is a target with the ability.
type xattrEnv struct {
	*env
	x      remote.Xattrer
	prefix string
}

// xattrCheck makes a check of one that needs the ability.
func xattrCheck(run func(e *xattrEnv)) func(e *env) {
	return func(e *env) {
		x, ok := remote.As[remote.Xattrer](e.b)
		if !ok {
			e.Log("the backend has not this ability")
			return
		}
		run(&xattrEnv{e, x, x.XattrPrefix()})
	}
}

func (e *xattrEnv) set(path, name, value string) {
	e.Helper()
	if err := e.x.SetXattr(e.ctx, path, e.prefix+name, []byte(value), remote.XattrAny); err != nil {
		e.Fatalf("setxattr %q of %q: %v", name, path, err)
	}
}

// wantXattrs checks the attributes of an entry, here named without their prefix, for
// both clients.
func (e *xattrEnv) wantXattrs(path string, want map[string]string) {
	e.Helper()
	full := map[string]string{}
	for name, value := range want {
		full[e.prefix+name] = value
	}
	other, ok := remote.As[remote.Xattrer](e.Other)
	if !ok {
		e.Fatal("the other client has not the ability")
	}
	for who, x := range map[string]remote.Xattrer{"this": e.x, "the other": other} {
		all, err := x.Xattrs(e.ctx, path)
		if err != nil {
			e.Fatalf("xattrs of %q for %s client: %v", path, who, err)
		}
		got := map[string]string{}
		for name, value := range all {
			got[name] = string(value)
		}
		if !maps.Equal(got, full) {
			e.Errorf("xattrs of %q for %s client: %q, want %q", path, who, got, full)
		}
	}
}

func checkXattrs(e *xattrEnv) {
	if e.prefix == "" || !strings.Contains(e.prefix, ".") {
		e.Errorf("the prefix is %q", e.prefix)
	}
	e.mkdir("/d")
	e.put("/d/f", []byte("content"))
	e.put("/g", []byte("other"))
	before := e.versioned(e.stat("/d/f"))
	for _, path := range []string{"/", "/d", "/d/f"} {
		e.wantXattrs(path, nil)
		e.set(path, "one", "1")
		e.set(path, "two", "zwei")
		e.wantXattrs(path, map[string]string{"one": "1", "two": "zwei"})
		e.set(path, "one", "another value")
		e.wantXattrs(path, map[string]string{"one": "another value", "two": "zwei"})
		if err := e.x.RemoveXattr(e.ctx, path, e.prefix+"two"); err != nil {
			e.Errorf("removexattr of %q: %v", path, err)
		}
		e.wantXattrs(path, map[string]string{"one": "another value"})
	}
	e.wantXattrs("/g", nil)
	e.sameEntry("stat before and after", before, e.stat("/d/f"))
	e.wantContent("/d/f", []byte("content"))
	e.wantNames("/", "d", "g")
	e.wantNames("/d", "f")
}

func checkXattrModes(e *xattrEnv) {
	e.put("/f", []byte("content"))
	try := func(value string, mode remote.XattrMode) error {
		return e.x.SetXattr(e.ctx, "/f", e.prefix+"name", []byte(value), mode)
	}
	e.wantKind(try("early", remote.XattrReplace), "replacing what is not there", remote.NoXattr)
	e.wantXattrs("/f", nil)
	if err := try("first", remote.XattrCreate); err != nil {
		e.Errorf("creation: %v", err)
	}
	e.wantXattrs("/f", map[string]string{"name": "first"})
	for _, value := range []string{"second", "other"} {
		e.wantKind(try(value, remote.XattrCreate), "creating what is there", remote.Exist)
	}
	e.wantXattrs("/f", map[string]string{"name": "first"})
	if err := try("third", remote.XattrReplace); err != nil {
		e.Errorf("replacement: %v", err)
	}
	e.wantXattrs("/f", map[string]string{"name": "third"})
	if err := try("third", remote.XattrAny); err != nil {
		e.Errorf("setting the value that is there: %v", err)
	}
	e.wantXattrs("/f", map[string]string{"name": "third"})
}

func checkXattrErrors(e *xattrEnv) {
	e.put("/f", []byte("content"))
	for _, path := range []string{"/none", "/none/deep", "/f/below"} {
		kinds := []remote.Kind{remote.NotExist}
		if path == "/f/below" {
			kinds = append(kinds, remote.NotDir)
		}
		_, err := e.x.Xattrs(e.ctx, path)
		e.wantKind(err, "xattrs of "+path, kinds...)
		for _, mode := range []remote.XattrMode{remote.XattrAny, remote.XattrCreate} {
			err := e.x.SetXattr(e.ctx, path, e.prefix+"a", []byte("1"), mode)
			e.wantKind(err, "setxattr of "+path, kinds...)
		}
		e.wantKind(e.x.RemoveXattr(e.ctx, path, e.prefix+"a"), "removexattr of "+path, kinds...)
	}
	for _, name := range []string{"", "user.", "security.capability", e.prefix, strings.TrimSuffix(e.prefix, ".") + "x"} {
		err := e.x.SetXattr(e.ctx, "/f", name, []byte("1"), remote.XattrAny)
		e.wantKind(err, fmt.Sprintf("setxattr of the name %q", name), remote.Invalid)
		e.wantKind(e.x.RemoveXattr(e.ctx, "/f", name), fmt.Sprintf("removexattr of the name %q", name), remote.NoXattr)
	}
	e.wantKind(e.x.RemoveXattr(e.ctx, "/f", e.prefix+"none"), "removexattr of nothing", remote.NoXattr)
	e.wantXattrs("/f", nil)
	e.wantNames("/", "f")
}

// oddValues are values that something on the way may not keep.
func oddValues() []string {
	return []string{
		"", " ", "  two  ", "\x00", "a\x00b", "\xff\xfe", "line\nline\n", "\r\n", "a,b;c='d'", "%", "<&>", "日本語",
		strings.Repeat("v", 2000),
	}
}

// checkXattrBytes wants each name and value to come out byte for byte, or to be
// refused with nothing changed.
func checkXattrBytes(e *xattrEnv) {
	e.put("/f", []byte("content"))
	want := map[string]string{"base": "kept"}
	e.set("/f", "base", "kept")
	for _, name := range oddNames() {
		e.trySet(want, name, "value")
	}
	for i, value := range oddValues() {
		e.trySet(want, fmt.Sprintf("value%d", i), value)
	}
	e.wantXattrs("/f", want)
	for name := range want {
		if err := e.x.RemoveXattr(e.ctx, "/f", e.prefix+name); err != nil {
			e.Errorf("removexattr %q: %v", name, err)
		}
	}
	e.wantXattrs("/f", nil)
	for i, pair := range [][2]string{{"%41", "A"}, {"caf\u00e9", "cafe\u0301"}, {"name", "NAME"}, {"x", "x "}, {"a.b", "a_b"}} {
		path, want := fmt.Sprintf("/pair%d", i), map[string]string{}
		e.put(path, nil)
		for _, name := range pair {
			e.trySet(want, name, name, path)
		}
		e.wantXattrs(path, want)
	}
}

// trySet sets an attribute of /f, or of the path given, and notes in want what was
// accepted.
func (e *xattrEnv) trySet(want map[string]string, name, value string, path ...string) {
	e.Helper()
	at := "/f"
	if len(path) > 0 {
		at = path[0]
	}
	if err := e.x.SetXattr(e.ctx, at, e.prefix+name, []byte(value), remote.XattrAny); err != nil {
		e.wantKind(err, fmt.Sprintf("setxattr of %q to %q", name, value), remote.Invalid)
		e.wantXattrs(at, want)
		return
	}
	want[name] = value
}

// checkXattrLife wants attributes to stay with their file.
func checkXattrLife(e *xattrEnv) {
	e.mkdir("/d")
	e.put("/d/f", []byte("content"))
	for _, path := range []string{"/d", "/d/f"} {
		e.set(path, "of", path)
	}
	e.rename("/d", "/e")
	e.wantXattrs("/e", map[string]string{"of": "/d"})
	e.wantXattrs("/e/f", map[string]string{"of": "/d/f"})
	e.put("/e/f", []byte("other content"))
	e.wantXattrs("/e/f", map[string]string{"of": "/d/f"})
	e.putWith("/e/f", nil, versionCond(e.versioned(e.stat("/e/f"))))
	e.wantXattrs("/e/f", map[string]string{"of": "/d/f"})

	e.put("/g", []byte("g"))
	e.set("/g", "only", "g")
	e.rename("/e/f", "/g")
	e.wantXattrs("/g", map[string]string{"of": "/d/f"})
	e.remove("/g", remote.File)
	e.put("/g", []byte("new"))
	e.wantXattrs("/g", nil)
}
