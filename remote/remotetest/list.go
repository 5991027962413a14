package remotetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

var listChecks = []check{
	{"List", checkList},
	{"ListErrors", checkListErrors},
	{"ListLarge", checkListLarge},
	{"ListYield", checkListYield},
}

func checkList(e *env) {
	e.wantNames("/")
	e.mkdir("/d")
	e.wantNames("/d")
	e.put("/d/f", []byte("12345"))
	e.mkdir("/d/sub")
	e.put("/d/sub/below", []byte("x"))
	e.wantNames("/", "d")
	e.wantNames("/d", "f", "sub")
	all := e.list("/d")
	if f := all["f"]; f.Type != remote.File || f.Size != 5 {
		e.Errorf("the file is listed as %+v", f)
	}
	if d := all["sub"]; d.Type != remote.Dir || d.Size != 0 {
		e.Errorf("the directory is listed as %+v", d)
	}
	e.remove("/d/f", remote.File)
	e.wantNames("/d", "sub")
}

func checkListErrors(e *env) {
	e.put("/f", []byte("f"))
	never := func(got remote.Entry) error {
		e.Errorf("got the entry %q", got.Path)
		return nil
	}
	e.wantKind(e.b.List(e.ctx, "/none", never), "list of nothing", remote.NotExist)
	e.wantKind(e.b.List(e.ctx, "/none/deep", never), "list of nothing", remote.NotExist)
	e.wantKind(e.b.List(e.ctx, "/f", never), "list of a file", remote.NotDir)
	e.wantKind(e.b.List(e.ctx, "/f/below", never), "list below a file", remote.NotDir, remote.NotExist)
}

// fill makes n small files in dir, some at a time.
func (e *env) fill(dir string, n int) {
	e.Helper()
	e.mkdir(dir)
	next := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range next {
				path := fmt.Sprintf("%s/file %d", dir, i)
				if _, err := e.b.Put(e.ctx, path, Bytes(Pattern(i%7, 0)), remote.PutOptions{}); err != nil {
					e.Errorf("put %q: %v", path, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

func checkListLarge(e *env) {
	e.fill("/d", e.LargeDir)
	got := e.list("/d")
	if len(got) != e.LargeDir {
		e.Errorf("%d entries, want %d", len(got), e.LargeDir)
	}
	for i := range e.LargeDir {
		name := fmt.Sprintf("file %d", i)
		if entry, ok := got[name]; !ok || entry.Size != int64(i%7) || entry.Type != remote.File {
			e.Errorf("%q is listed as %+v", name, entry)
		}
	}
}

// checkListYield stops a listing from inside, by an error, by its context, and by
// calls of the backend itself.
func checkListYield(e *env) {
	const n = 40
	e.fill("/d", n)
	for _, stop := range []int{1, 2, n} {
		for _, mine := range []error{errors.New("mine"), remote.NotExist, &remote.Error{Op: "x", Kind: remote.Unavailable}} {
			calls := 0
			err := e.b.List(e.ctx, "/d", func(remote.Entry) error {
				if calls++; calls == stop {
					return mine
				}
				return nil
			})
			if err != mine || calls != stop {
				e.Errorf("yield failed at %d: list returned %v after %d calls", stop, err, calls)
			}
		}
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	err := e.b.List(ctx, "/d", func(remote.Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		e.Errorf("cancelled while listing: %v", err)
	}
	seen := 0
	err = e.b.List(e.ctx, "/d", func(got remote.Entry) error {
		if seen++; seen > 10 {
			return nil
		}
		_, err := e.b.Stat(e.ctx, got.Path)
		return err
	})
	if err != nil || seen != n {
		e.Errorf("a listing that calls the backend: %d entries, %v", seen, err)
	}
}
