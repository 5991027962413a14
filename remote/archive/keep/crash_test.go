package keep_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// change is an operation that a crash may cut off anywhere.
type change struct {
	name string
	do   func(ctx context.Context, k *keep.Backend) error
	// then is what shows of /d afterwards: before, it is what start makes.
	then map[string]string
	// between is what may show besides, nil if nothing may.
	between map[string]string
}

// start is what shows of /d before each change: a, b and c are members, p is a plain file.
var start = map[string]string{"/d/a": "alpha", "/d/b": "beta", "/d/c": "", "/d/p": "plain"}

// with returns start without some names and with others.
func with(without []string, more map[string]string) map[string]string {
	all := maps.Clone(start)
	for _, name := range without {
		delete(all, name)
	}
	maps.Copy(all, more)
	return all
}

func put(path, text string, cond remote.Cond) func(context.Context, *keep.Backend) error {
	return func(ctx context.Context, k *keep.Backend) error {
		_, err := k.Put(ctx, path, remotetest.Bytes([]byte(text)), remote.PutOptions{Cond: cond})
		return err
	}
}

func rename(from, to string) func(context.Context, *keep.Backend) error {
	return func(ctx context.Context, k *keep.Backend) error {
		return k.Rename(ctx, from, to, remote.RenameOptions{})
	}
}

func remove(paths ...string) func(context.Context, *keep.Backend) error {
	return func(ctx context.Context, k *keep.Backend) error {
		for _, path := range paths {
			if err := k.Remove(ctx, path, file); err != nil {
				return err
			}
		}
		return nil
	}
}

var changes = []change{
	{"overwrite", put("/d/a", "other", remote.Cond{}), with(nil, map[string]string{"/d/a": "other"}), nil},
	{"create", put("/d/n", "new", remote.Cond{NotExist: true}), with(nil, map[string]string{"/d/n": "new"}), nil},
	{"remove", remove("/d/a"), with([]string{"/d/a"}, nil), nil},
	{"remove plain", remove("/d/p"), with([]string{"/d/p"}, nil), nil},
	{"remove all", func(ctx context.Context, k *keep.Backend) error {
		return errors.Join(remove("/d/a")(ctx, k), remove("/d/b")(ctx, k), remove("/d/c")(ctx, k))
	}, with([]string{"/d/a", "/d/b", "/d/c"}, nil), with([]string{"/d/a"}, nil)},
	{"rename", rename("/d/a", "/d/n"), with([]string{"/d/a"}, map[string]string{"/d/n": "alpha"}), with(nil, map[string]string{"/d/n": "alpha"})},
	{"rename onto a member", rename("/d/a", "/d/b"), with([]string{"/d/a"}, map[string]string{"/d/b": "alpha"}), with(nil, map[string]string{"/d/b": "alpha"})},
	{"rename onto a file", rename("/d/a", "/d/p"), with([]string{"/d/a"}, map[string]string{"/d/p": "alpha"}), with(nil, map[string]string{"/d/p": "alpha"})},
	{"rename of a file onto a member", rename("/d/p", "/d/b"), with([]string{"/d/p"}, map[string]string{"/d/b": "plain"}), nil},
	{"set a mode", func(ctx context.Context, k *keep.Backend) error {
		mode := uint32(0o700)
		_, err := k.SetAttr(ctx, "/d/a", remote.Attrs{Mode: &mode})
		return err
	}, start, nil},
	{"batch", func(ctx context.Context, k *keep.Backend) error {
		got, err := k.PutBatch(ctx, items(map[string]string{"/d/m": "m", "/d/n": "new"}))
		for _, r := range got {
			err = errors.Join(err, r.Err)
		}
		return err
	}, with(nil, map[string]string{"/d/m": "m", "/d/n": "new"}), nil},
}

// TestCrashes ends the process before and after each request of each change. Another client
// then sees what was there before or what is to be, and the change can be made again.
func TestCrashes(t *testing.T) {
	for _, c := range changes {
		for _, fault := range []remotetest.Fault{remotetest.FaultError, remotetest.FaultLost} {
			t.Run(fmt.Sprintf("%s/%d", c.name, fault), func(t *testing.T) {
				points := 0
				for ; !c.crash(t, points, fault); points++ {
				}
				if points < 2 {
					t.Errorf("only %d requests were cut off", points)
				}
			})
		}
	}
}

// crash cuts the change off at its n-th request and tells whether it has none.
func (c *change) crash(t *testing.T, n int, fault remotetest.Fault) (over bool) {
	b := newBed(t)
	b.batch(b.client(), three)
	b.put(b.server, "/d/p", "plain")
	faulty := remotetest.Faulty(b.server, remotetest.Plan{Rules: []remotetest.Rule{
		{Skip: n, Count: 1, Fault: fault}, {Skip: n, Fault: remotetest.FaultError},
	}})
	err := c.do(t.Context(), keep.Wrap(faulty, keep.Options{}))
	if faulty.Injected() == 0 {
		if err != nil {
			t.Errorf("without a crash: %v", err)
		}
		b.wantTree(b.client(), c.then)
		return true
	}
	got := tree(t, b.client(), "/d")
	known := maps.Equal(got, c.then) || maps.Equal(got, start) || c.between != nil && c.isBetween(got)
	if !known {
		t.Errorf("after a crash at request %d: %q", n, got)
	}
	if err == nil && !maps.Equal(got, c.then) {
		t.Errorf("it is told to be done, after a crash at request %d: %q", n, got)
	}
	again := c.do(t.Context(), b.client())
	if again != nil && !errors.Is(again, remote.NotExist) && !errors.Is(again, remote.Exist) {
		t.Errorf("made again after a crash at request %d: %v", n, again)
	}
	b.wantTree(b.client(), c.then)
	return false
}

// isBetween tells whether what shows is a step of the change: of those that are not atomic.
func (c *change) isBetween(got map[string]string) bool {
	if maps.Equal(got, c.between) {
		return true
	}
	for path, text := range got { // of many removals some
		if start[path] != text {
			return false
		}
	}
	for path := range c.then {
		if _, ok := got[path]; !ok {
			return false
		}
	}
	return true
}

// TestCrashOfCompaction cuts off the removals that make an archive worth rewriting.
func TestCrashOfCompaction(t *testing.T) {
	files := map[string]string{}
	for i := range 4 {
		files[fmt.Sprintf("/d/f%d", i)] = string(remotetest.Pattern(40<<10, byte(i)))
	}
	for n, over := 0, false; !over; n++ {
		b := newBed(t)
		b.batch(b.client(), files)
		faulty := remotetest.Faulty(b.server, remotetest.Plan{Rules: []remotetest.Rule{
			{Skip: n, Count: 1, Fault: remotetest.FaultLost}, {Skip: n, Fault: remotetest.FaultError},
		}})
		_ = remove("/d/f0", "/d/f1", "/d/f2")(t.Context(), keep.Wrap(faulty, keep.Options{})) // fails where it is cut off
		over = faulty.Injected() == 0
		got := tree(t, b.client(), "/d")
		for path, text := range got {
			if files[path] != text {
				t.Errorf("%d: %s holds %d bytes", n, path, len(text))
			}
		}
		if _, ok := got["/d/f3"]; !ok || over && len(got) != 1 {
			t.Errorf("%d: shown is %q", n, slices.Collect(maps.Keys(got)))
		}
		for _, path := range []string{"/d/f0", "/d/f1", "/d/f2"} {
			if err := b.client().Remove(t.Context(), path, file); err != nil && !errors.Is(err, remote.NotExist) {
				t.Errorf("%d: %v", n, err)
			}
		}
		b.wantTree(b.client(), map[string]string{"/d/f3": files["/d/f3"]})
	}
}

// TestRaces stores the same names by many clients at a time, in batches and alone: of each
// name at most one is told to be stored, and that is what shows.
func TestRaces(t *testing.T) {
	const clients, names, rounds = 8, 6, 5
	for round := range rounds {
		b := newBed(t)
		var mu sync.Mutex
		won := map[string][]string{}
		note := func(path, text string, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won[path] = append(won[path], text)
			case !errors.Is(err, remote.Exist):
				t.Errorf("%s: %v", path, err)
			}
		}
		var all sync.WaitGroup
		for c := range clients {
			all.Go(func() {
				k, files := b.client(), map[string]string{}
				for i := range names {
					files[fmt.Sprintf("/d/f%d", i)] = fmt.Sprintf("of %d, file %d", c, i)
				}
				if c%2 == round%2 {
					for path, text := range files {
						note(path, text, put(path, text, remote.Cond{NotExist: true})(t.Context(), k))
					}
					return
				}
				list := items(files)
				got, err := k.PutBatch(t.Context(), list)
				if err != nil {
					t.Error(err)
					return
				}
				for i, r := range got {
					note(list[i].Path, files[list[i].Path], r.Err)
				}
			})
		}
		all.Wait()
		got := tree(t, b.client(), "/d")
		for path, texts := range won {
			if len(texts) != 1 || got[path] != texts[0] {
				t.Errorf("%s: stored as %q, shown is %q", path, texts, got[path])
			}
		}
		if len(got) != len(won) {
			t.Errorf("%d names show, %d were stored", len(got), len(won))
		}
	}
}

// TestManyWriters has clients write, remove, rename and read at the same time: each finds
// its own files as it left them.
func TestManyWriters(t *testing.T) {
	b := newBed(t)
	want, mu := map[string]string{}, sync.Mutex{}
	var all sync.WaitGroup
	for c := range 4 {
		all.Go(func() {
			k, mine := b.client(), map[string]string{}
			for round := range 6 {
				files := map[string]string{}
				for i := range 4 {
					files[fmt.Sprintf("/d/%d-%d-%d", c, round, i)] = string(remotetest.Pattern(20<<10+i, byte(c*16+round)))
				}
				b.batch(k, files)
				maps.Copy(mine, files)
				for _, path := range slices.Sorted(maps.Keys(files))[:3] {
					if err := k.Remove(t.Context(), path, file); err != nil {
						t.Errorf("%s: %v", path, err)
					}
					delete(mine, path)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(want, mine)
		})
	}
	all.Wait()
	b.wantTree(b.client(), want)
}

// TestLateCompaction wants a member to stay removed that another client carries to a new
// archive at the same time.
func TestLateCompaction(t *testing.T) {
	b := newBed(t)
	files := map[string]string{}
	for i := range 6 {
		files[fmt.Sprintf("/d/f%d", i)] = string(remotetest.Pattern(40<<10, byte(i)))
	}
	b.batch(b.client(), files)
	faulty := remotetest.Faulty(b.server, remotetest.Plan{})
	slow, quick := keep.Wrap(faulty, keep.Options{}), b.client()
	if err := remove("/d/f0", "/d/f1", "/d/f2")(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	// The tombstone goes through, the archive that takes the place of the first waits.
	faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpPut}, Skip: 1, Count: 1, Fault: remotetest.FaultStall},
	}})
	done := make(chan error, 1)
	go func() { done <- slow.Remove(t.Context(), "/d/f3", file) }()
	for faulty.Injected() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := quick.Remove(t.Context(), "/d/f4", file); err != nil {
		t.Error(err)
	}
	faulty.SetPlan(remotetest.Plan{})
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.wantTree(b.client(), map[string]string{"/d/f5": files["/d/f5"]})
}
