package remotetest

import (
	"errors"
	"fmt"

	"github.com/meshmount/meshmount/remote"
)

var removeChecks = []check{
	{"Remove", checkRemove},
	{"RemoveNonEmpty", checkRemoveNonEmpty},
	{"RemoveVersion", checkRemoveVersion},
	{"RemoveRace", checkRemoveRace},
}

func checkRemove(e *env) {
	file, dir := remote.RemoveOptions{Type: remote.File}, remote.RemoveOptions{Type: remote.Dir}
	e.put("/f", []byte("f"))
	e.mkdir("/d")
	e.wantKind(e.b.Remove(e.ctx, "/f", dir), "rmdir of a file", remote.NotDir)
	e.wantKind(e.b.Remove(e.ctx, "/d", file), "unlink of a directory", remote.IsDir)
	e.wantNames("/", "d", "f")
	e.remove("/f", remote.File)
	e.wantNothing("/f")
	e.remove("/d", remote.Dir)
	e.wantNothing("/d")
	e.wantNames("/")
	for _, opts := range []remote.RemoveOptions{file, dir} {
		for _, path := range []string{"/f", "/none", "/none/deep"} {
			e.wantKind(e.b.Remove(e.ctx, path, opts), fmt.Sprintf("removal of %q", path), remote.NotExist)
		}
	}
	e.put("/f", []byte("again"))
	e.wantContent("/f", []byte("again"))
	e.wantKind(e.b.Remove(e.ctx, "/f/x", file), "removal below a file", remote.NotExist, remote.NotDir)
	e.mkdir("/d")
	e.wantNames("/d")
}

// checkRemoveNonEmpty wants that nothing below a directory is ever deleted.
func checkRemoveNonEmpty(e *env) {
	e.mkdir("/d")
	e.put("/d/f", []byte("kept"))
	e.mkdir("/e")
	e.mkdir("/e/sub")
	for _, path := range []string{"/d", "/e"} {
		err := e.b.Remove(e.ctx, path, remote.RemoveOptions{Type: remote.Dir})
		e.wantKind(err, "rmdir of non-empty "+path, remote.NotEmpty)
		err = e.b.Remove(e.ctx, path, remote.RemoveOptions{Type: remote.File})
		e.wantKind(err, "unlink of non-empty "+path, remote.IsDir)
	}
	e.wantContent("/d/f", []byte("kept"))
	e.wantNames("/e", "sub")
	e.remove("/d/f", remote.File)
	e.remove("/d", remote.Dir)
	e.remove("/e/sub", remote.Dir)
	e.remove("/e", remote.Dir)
	e.wantNames("/")
}

func checkRemoveVersion(e *env) {
	old := e.versioned(e.put("/f", []byte("old")))
	if old.Version == "" || e.caps.RemoveGuard == remote.GuardNone {
		e.Log("the backend does not check it")
		return
	}
	now := e.versioned(e.put("/f", []byte("newer")))
	if e.distinct(old, now) {
		err := e.b.Remove(e.ctx, "/f", remote.RemoveOptions{Type: remote.File, Version: old.Version})
		e.wantKind(err, "removal of another version", remote.Conflict)
	}
	e.wantContent("/f", []byte("newer"))
	err := e.b.Remove(e.ctx, "/f", remote.RemoveOptions{Type: remote.File, Version: now.Version})
	if err != nil {
		e.Errorf("removal of the right version: %v", err)
	}
	e.wantNothing("/f")
	err = e.b.Remove(e.ctx, "/f", remote.RemoveOptions{Type: remote.File, Version: now.Version})
	e.wantKind(err, "removal of a version that is gone", remote.NotExist, remote.Conflict)
}

// checkRemoveRace removes a directory while a file is made in it: what was
// acknowledged must be there afterwards.
func checkRemoveRace(e *env) {
	if e.caps.RemoveGuard != remote.GuardAtomic {
		e.Logf("the guard is %v", e.caps.RemoveGuard)
		return
	}
	for round := range 10 {
		dir := fmt.Sprintf("/d%d", round)
		e.mkdir(dir)
		errs := race(func(i int) error {
			if i == racers/2 {
				return e.b.Remove(e.ctx, dir, remote.RemoveOptions{Type: remote.Dir})
			}
			_, err := e.b.Put(e.ctx, remote.Join(dir, fmt.Sprint(i)), Bytes([]byte("x")), remote.PutOptions{})
			return err
		})
		removed := errs[racers/2] == nil
		for i, err := range errs {
			switch {
			case i == racers/2 && err != nil:
				e.wantKind(err, "the removal", remote.NotEmpty, remote.Locked)
			case i == racers/2 || errors.Is(err, remote.NotExist) || errors.Is(err, remote.Locked):
			case err != nil:
				e.Errorf("put: %v", err)
			case removed:
				e.Errorf("a directory was removed with the file %d in it", i)
			}
		}
	}
}
