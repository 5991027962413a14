package writeback

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// dying lets so many requests through to a server; the process dies then: what comes after
// has never been sent. Where the answer is lost, the last one is carried out.
type dying struct {
	left atomic.Int64
	late bool
	puts bool // it dies at the first Put, if it has not before
}

// around is the server as the process sees it.
func (d *dying) around(server remote.Backend) remote.Backend {
	return remote.Intercept(server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		switch n := d.count(c.Op); {
		case n >= 0:
			return next(ctx)
		case n == -1 && d.late:
			_ = next(context.WithoutCancel(ctx)) // the server does not hear of the end
		}
		return &remote.Error{Op: string(c.Op), Path: c.Path, Kind: remote.Unavailable, Unsure: true}
	})
}

// count tells how many requests are left after one of op, -1 if it is the one that kills.
func (d *dying) count(op remote.Op) int64 {
	for {
		n := d.left.Load()
		after := n - 1
		if d.puts && op == remote.OpPut && n > 0 {
			after = -1
		}
		if d.left.CompareAndSwap(n, after) {
			return after
		}
	}
}

func (d *dying) dead() bool { return d.left.Load() < 0 }

// stepsCase is something that keep does in several steps.
type stepsCase struct {
	name string
	do   func(context.Context, *Branch) error
	want map[string]string // of what it changes; "" is nothing
	part map[string]string // of that, what may be there if it is not acknowledged
	mode map[string]uint32
	// then is done by the next process, before anything is sent, if the first was acknowledged.
	then     func(context.Context, *Branch) error
	thenWant map[string]string
}

func stepsCases() []stepsCase {
	put := func(path, content string) func(context.Context, *Branch) error {
		return func(ctx context.Context, b *Branch) error {
			_, err := b.Put(ctx, path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
			return err
		}
	}
	move := func(from, to string) func(context.Context, *Branch) error {
		return func(ctx context.Context, b *Branch) error { return b.Rename(ctx, from, to, remote.RenameOptions{}) }
	}
	remove := func(path string) func(context.Context, *Branch) error {
		return func(ctx context.Context, b *Branch) error { return b.Remove(ctx, path, remote.RemoveOptions{}) }
	}
	mode := uint32(0o600)
	dressed := func(path string) func(context.Context, *Branch) error {
		return func(ctx context.Context, b *Branch) error {
			_, err := b.SetAttr(ctx, path, remote.Attrs{Mode: &mode})
			return err
		}
	}
	return []stepsCase{
		{name: "overwrite", do: put("/a", "other"), want: map[string]string{"/a": "other"}},
		{name: "overwrite twice", do: put("/a", "other"), want: map[string]string{"/a": "other"},
			then: put("/a", "a third one"), thenWant: map[string]string{"/a": "a third one"}},
		{name: "overwrite, remove", do: put("/a", "other"), want: map[string]string{"/a": "other"},
			then: remove("/a"), thenWant: map[string]string{"/a": ""}},
		{name: "overwrite, rename", do: put("/a", "other"), want: map[string]string{"/a": "other"},
			then: move("/a", "/b"), thenWant: map[string]string{"/a": "", "/b": "other"}},
		{name: "remove", do: remove("/a"), want: map[string]string{"/a": ""}},
		{name: "rename", do: move("/a", "/new"), want: map[string]string{"/a": "", "/new": "content a"}},
		{name: "rename, remove", do: move("/a", "/new"), want: map[string]string{"/a": "", "/new": "content a"},
			then: remove("/new"), thenWant: map[string]string{"/a": "", "/new": ""}},
		{name: "rename over a member", do: move("/a", "/b"), want: map[string]string{"/a": "", "/b": "content a"}},
		{name: "rename over a plain file", do: move("/a", "/plain"), want: map[string]string{"/a": "", "/plain": "content a"},
			mode: map[string]uint32{"/plain": 0o700}},
		{name: "rename a plain file over a member", do: move("/plain", "/a"), want: map[string]string{"/plain": "", "/a": "content plain"}},
		{name: "rename a new file over a member", do: func(ctx context.Context, b *Branch) error {
			if err := put("/new", "new content")(ctx, b); err != nil {
				return err
			}
			return move("/new", "/a")(ctx, b)
		}, want: map[string]string{"/a": "new content"}, part: map[string]string{"/new": "new content"}},
		{name: "mode", do: dressed("/a"), mode: map[string]uint32{"/a": 0o600}},
		{name: "mode, remove", do: dressed("/a"), then: remove("/a"), thenWant: map[string]string{"/a": ""}},
		{name: "xattr", do: func(ctx context.Context, b *Branch) error {
			return b.SetXattr(ctx, "/a", "user.x", []byte("y"), remote.XattrAny)
		}},
	}
}

// TestKilledBetweenSteps has the process die at each request of what keep does in several
// steps. The next one shows what was acknowledged and nothing else, at once, and so does the
// server when it has gone on.
func TestKilledBetweenSteps(t *testing.T) {
	for _, c := range stepsCases() {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, late), func(t *testing.T) {
				t.Parallel()
				for n := int64(0); ; n++ {
					if whole := c.try(t, n, late); whole || t.Failed() {
						if n < 2 && !t.Failed() {
							t.Error("it takes no steps")
						}
						return
					}
				}
			})
		}
	}
}

// try has the process die after n requests, and tells whether there were not so many.
func (c *stepsCase) try(t *testing.T, n int64, late bool) (whole bool) {
	ctx := t.Context()
	server := memory.New(memory.Options{})
	before := map[string]string{}
	var items []remote.BatchItem
	for _, name := range []string{"/a", "/b", "/c"} {
		before[name] = "content " + name[1:]
		at, bits := time.Unix(1e9, 0), uint32(0o700)
		items = append(items, remote.BatchItem{Path: name, Source: remotetest.Bytes([]byte(before[name])), Attrs: remote.Attrs{MTime: &at, Mode: &bits}})
	}
	if _, err := keep.Wrap(server, keep.Options{}).PutBatch(ctx, items); err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o600)
	before["/plain"] = "content plain"
	if _, err := server.Put(ctx, "/plain", remotetest.Bytes([]byte("content plain")), remote.PutOptions{Attrs: remote.Attrs{Mode: &mode}}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	process := func(below remote.Backend) (*Store, *Branch) {
		s, err := Open(dir, Options{RetryWait: time.Millisecond, Hostname: "here"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Wrap(keep.Wrap(below, keep.Options{}), Policy{Name: "b", Tree: "memory:b"})
		if err != nil {
			t.Fatal(err)
		}
		return s, b
	}
	d := &dying{late: late}
	d.left.Store(n)
	s, b := process(d.around(server))
	s.Start()
	err := c.do(ctx, b)
	eventually(t, "dead, or done", func() bool { return d.dead() || len(s.Status().Items) == 0 })
	whole = !d.dead()
	_ = s.Close()

	s, b = process(server)
	defer s.Close()
	want := []map[string]string{with(before, c.want)}
	if err != nil { // it may have happened or not
		want = append(want, before, with(before, c.part))
	}
	when := fmt.Sprintf("after %d requests (%v)", n, err)
	found := files(t, b)
	if !oneOf(found, want) {
		t.Errorf("%s: the next process shows %q, and should one of %q", when, found, want)
	}
	if c.then != nil && err == nil {
		if err := c.then(ctx, b); err != nil {
			t.Fatal(err)
		}
		found = with(before, c.thenWant)
		if now := files(t, b); !maps.Equal(now, found) {
			t.Errorf("%s: then it shows %q, and should %q", when, now, found)
		}
	}
	s.Start()
	if err := s.Flush(ctx, "", "/"); err != nil {
		t.Fatal(err)
	}
	if now := files(t, keep.Wrap(server, keep.Options{})); !maps.Equal(now, found) {
		t.Errorf("%s: the server has %q, and should %q", when, now, found)
	}
	if found := s.Status().Branches[0].Conflicts; len(found) > 0 {
		t.Errorf("%s: conflicts %+v", when, found)
	}
	for path, mode := range c.mode {
		if e, err2 := b.Stat(ctx, path); c.then == nil && err == nil && (err2 != nil || !e.ModeKnown || e.Mode != mode) {
			t.Errorf("%s: %s has mode %o (%v)", when, path, e.Mode, err2)
		}
	}
	return whole
}

// with returns all with some others; "" is nothing.
func with(all, others map[string]string) map[string]string {
	all = maps.Clone(all)
	maps.Copy(all, others)
	maps.DeleteFunc(all, func(_, content string) bool { return content == "" })
	return all
}

func oneOf(found map[string]string, want []map[string]string) bool {
	for _, w := range want {
		if maps.Equal(found, w) {
			return true
		}
	}
	return false
}

// files returns the contents of all files at the root.
func files(t *testing.T, b remote.Backend) map[string]string {
	t.Helper()
	var all []remote.Entry
	if err := b.List(t.Context(), "/", func(e remote.Entry) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range all {
		p := make([]byte, e.Size)
		if n, _ := b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0); n < len(p) {
			t.Errorf("%s: %d bytes of %d", e.Path, n, len(p))
		}
		found[e.Path] = string(p)
		if now, err := b.Stat(t.Context(), e.Path); err != nil || now.Version != e.Version {
			t.Errorf("%s: %+v (%v), and is listed as %+v", e.Path, now, err, e)
		}
	}
	return found
}

// TestUnpackedMeanwhile renames members, and others over members, that somebody else unpacks
// before: that is no conflict.
func TestUnpackedMeanwhile(t *testing.T) {
	for _, to := range []string{"/b", "/c"} {
		t.Run(to, func(t *testing.T) {
			ctx := t.Context()
			server := memory.New(memory.Options{})
			other := keep.Wrap(server, keep.Options{})
			var items []remote.BatchItem
			for _, name := range []string{"/a", "/b"} {
				items = append(items, remote.BatchItem{Path: name, Source: remotetest.Bytes([]byte("content " + name[1:]))})
			}
			if _, err := other.PutBatch(ctx, items); err != nil {
				t.Fatal(err)
			}
			s, b := openBranch(t, t.TempDir(), keep.Wrap(server, keep.Options{}), Options{RetryWait: time.Millisecond, Hostname: "here"}, Policy{})
			if _, err := b.Put(ctx, "/new", remotetest.Bytes([]byte("new")), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			b.queue.last("/new").tried = true // so that it is renamed there
			s.mu.Unlock()
			for _, m := range [][2]string{{"/a", to}, {"/new", "/a"}} {
				if err := b.Rename(ctx, m[0], m[1], remote.RenameOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := other.Unpack(ctx, "/"); err != nil {
				t.Fatal(err)
			}
			s.Start()
			if err := s.Flush(ctx, "", "/"); err != nil {
				t.Fatal(err)
			}
			want := with(map[string]string{"/b": "content b"}, map[string]string{"/a": "new", to: "content a"})
			if found := files(t, keep.Wrap(server, keep.Options{})); !maps.Equal(found, want) {
				t.Errorf("the server has %q, and should %q", found, want)
			}
			if found := s.Status().Branches[0].Conflicts; len(found) > 0 {
				t.Errorf("conflicts %+v", found)
			}
		})
	}
}

// TestKilledOverOwnMember has a process die that replaces what one before it has stored in an
// archive, without having heard of it, with what was written since.
func TestKilledOverOwnMember(t *testing.T) {
	names := []string{"/a", "/b", "/c", "/d"}
	for n := int64(0); ; n++ {
		ctx := t.Context()
		server := memory.New(memory.Options{})
		dir := t.TempDir()
		process := func(d *dying) (*Store, *Branch) {
			s, err := Open(dir, Options{RetryWait: time.Millisecond, Hostname: "here"})
			if err != nil {
				t.Fatal(err)
			}
			b, err := s.Wrap(keep.Wrap(d.around(server), keep.Options{}), Policy{Name: "b", Tree: "memory:b",
				Batch: Batching{Size: 64 << 10, Files: 40, Bytes: 1 << 20, Delay: time.Millisecond}})
			if err != nil {
				t.Fatal(err)
			}
			return s, b
		}
		put := func(b *Branch, content string) {
			for _, path := range names {
				if _, err := b.Put(ctx, path, remotetest.Bytes([]byte(content+path)), remote.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		whole, first := &dying{}, &dying{late: true, puts: true}
		whole.left.Store(1 << 40)
		s, b := process(first)
		first.left.Store(1 << 40)
		put(b, "first")
		s.Start()
		eventually(t, "dead", first.dead)
		_ = s.Close()
		if found := files(t, keep.Wrap(server, keep.Options{})); len(found) != len(names) {
			t.Fatalf("it was not stored in an archive: %q", found)
		}
		second := &dying{}
		second.left.Store(1 << 40)
		s, b = process(second)
		for _, path := range names {
			rewrite(t, b, path, "second"+path)
		}
		second.left.Store(n)
		s.Start()
		eventually(t, "dead, or done", func() bool { return second.dead() || len(s.Status().Items) == 0 })
		_ = s.Close()
		s, b = process(whole)
		want := map[string]string{}
		for _, path := range names {
			want[path] = "second" + path
		}
		if found := files(t, b); !maps.Equal(found, want) {
			t.Errorf("after %d requests the next process shows %q", n, found)
		}
		s.Start()
		if err := s.Flush(ctx, "", "/"); err != nil {
			t.Fatal(err)
		}
		if found := files(t, keep.Wrap(server, keep.Options{})); !maps.Equal(found, want) {
			t.Errorf("after %d requests the server has %q", n, found)
		}
		if found := s.Status().Branches[0].Conflicts; len(found) > 0 {
			t.Errorf("after %d requests: conflicts %+v", n, found)
		}
		_ = s.Close()
		if !second.dead() || t.Failed() {
			if n < 6 && !t.Failed() {
				t.Errorf("it took %d requests", n)
			}
			return
		}
	}
}

// rewrite writes over a file that is not sent yet, as who has it open.
func rewrite(t *testing.T, b *Branch, path, content string) {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := b.Restage(e.Version)
	if !ok {
		t.Fatal("it is not staged")
	}
	defer st.Release()
	if _, err := st.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context(), path, st, Commit{Cond: remote.Cond{Version: e.Version}, Base: e}); err != nil {
		t.Fatal(err)
	}
}
