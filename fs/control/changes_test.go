package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// changes is a list of changes that do nothing by themselves. It notes what it is asked for.
type changes struct {
	mu     sync.Mutex
	list   []Item
	calls  []string
	err    error
	flushy chan error // Flush waits for it, if it is not nil
}

func (c *changes) note(format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, fmt.Sprintf(format, args...))
	return c.err
}

func (c *changes) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func (c *changes) Status(_ context.Context, items int) (Status, error) {
	err := c.note("status %d", items)
	first := c.list[:min(items, len(c.list))]
	return Status{Mountpoint: "/mnt", State: StateMounted, Progress: Progress{Pending: len(c.list)}, Items: first, LeftOut: len(c.list) - len(first),
		Branches: []BranchStatus{{Name: "/a", Mounted: true, Conflicts: []Conflict{{Path: "/a/x", Copy: "/a/x.conflict-h-t"}}}}}, err
}

func (c *changes) Items(_ context.Context, yield func(Item) error) error {
	for _, i := range c.list {
		if err := yield(i); err != nil {
			return err
		}
	}
	return c.err
}

func (c *changes) Progress(context.Context) (Progress, error) {
	return Progress{Pending: len(c.list), Bytes: 100, Sent: 20, Rate: 8, Held: []string{"a: quota"}}, nil
}

func (c *changes) Flush(ctx context.Context, path string) (Leftovers, error) {
	_ = c.note("flush %s", path)
	if c.flushy == nil {
		return Leftovers{}, c.err
	}
	select {
	case err := <-c.flushy:
		return Leftovers{Items: c.list[:1], LeftOut: len(c.list) - 1}, err
	case <-ctx.Done():
		_ = c.note("gave up")
		return Leftovers{}, ctx.Err()
	}
}

func (c *changes) Retry(_ context.Context, id uint64) error { return c.note("retry %d", id) }
func (c *changes) RetryAll(context.Context) (int, error)    { return len(c.list), c.note("retry all") }
func (c *changes) Drop(_ context.Context, id uint64) error  { return c.note("drop %d", id) }
func (c *changes) Pause(_ context.Context, hold bool) error { return c.note("pause %v", hold) }

func (c *changes) Export(_ context.Context, dir string, ids []uint64, yield func(Exported) error) error {
	_ = c.note("export %s %v", dir, ids)
	for _, i := range c.list {
		if err := yield(Exported{ID: i.ID, Path: i.Path, File: dir + i.Path}); err != nil {
			return err
		}
	}
	return c.err
}

// many returns a list of changes.
func many(n int) []Item {
	var list []Item
	for i := range n {
		list = append(list, Item{ID: uint64(i + 1), Op: "put", Path: fmt.Sprintf("/a/file ä %d", i), State: ItemParked, Size: int64(i),
			Since: time.Unix(int64(i), 5).UTC(), Tries: 3, Cause: "no\nspace", Kind: remote.NoSpace.String(), File: "/cache/pending/7"})
	}
	return list
}

// serveChanges starts a server over c.
func serveChanges(t *testing.T, c *changes) *Client {
	t.Helper()
	name := filepath.Join(t.TempDir(), "control")
	listen(t, name, &target{changes: c})
	return NewClient(name)
}

func TestStatusIsBounded(t *testing.T) {
	on := &changes{list: many(5000)}
	c := serveChanges(t, on)
	for asked, want := range map[int]int{0: 0, 3: 3, 100_000: MaxItems} {
		s, err := c.Status(t.Context(), asked)
		if err != nil || len(s.Items) != want || s.LeftOut != 5000-want || s.Pending != 5000 {
			t.Errorf("%d: %d items, %d left out, %d in all, %v", asked, len(s.Items), s.LeftOut, s.Pending, err)
		}
		if want > 0 && !reflect.DeepEqual(s.Items, on.list[:want]) {
			t.Errorf("items are not the same: %+v", s.Items[0])
		}
		if len(s.Branches) != 1 || len(s.Branches[0].Conflicts) != 1 {
			t.Errorf("%+v", s.Branches)
		}
	}
	if _, err := c.Status(t.Context(), -1); remote.KindOf(err) != remote.Invalid {
		t.Errorf("%v", err)
	}
}

// TestItemsAreStreamed reads more than a bounded answer may hold.
func TestItemsAreStreamed(t *testing.T) {
	on := &changes{list: many(20_000)}
	c := serveChanges(t, on)
	var got []Item
	err := c.Items(t.Context(), func(i Item) error { got = append(got, i); return nil })
	if err != nil || !reflect.DeepEqual(got, on.list) {
		t.Errorf("%d items, %v", len(got), err)
	}
	// The end of interest ends it.
	enough, n := errors.New("enough"), 0
	err = c.Items(t.Context(), func(Item) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 3 {
		t.Errorf("%d, %v", n, err)
	}
	on.err = &remote.Error{Op: "items", Kind: remote.Other, Err: errors.New("why")}
	if err := c.Items(t.Context(), func(Item) error { return nil }); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("an error at the end: %v", err)
	}
}

// TestAnswerThatIsCutOff is no answer.
func TestAnswerThatIsCutOff(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"item\":{\"id\":1}}\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{\"item\":{\"id\":1}}\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"end",
	} {
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			_, _ = conn.Read(buf)
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}()
		err := NewClient(name).Items(t.Context(), func(Item) error { return nil })
		if remote.KindOf(err) != remote.Unavailable {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestFlushTellsHowItGoes(t *testing.T) {
	on := &changes{list: many(3), flushy: make(chan error)}
	c := serveChanges(t, on)
	told := make(chan Progress, 100)
	type outcome struct {
		left Leftovers
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		left, err := c.Flush(t.Context(), "/a/ä", func(p Progress) { told <- p })
		done <- outcome{left, err}
	}()
	if p := <-told; p.Pending != 3 || p.TimeLeft() != 10*time.Second || !slices.Equal(p.Held, []string{"a: quota"}) {
		t.Errorf("%+v, %v", p, p.TimeLeft())
	}
	<-told // and again
	on.flushy <- &remote.Error{Op: "flush", Path: "/a/x", Kind: remote.NoSpace, Err: errors.New("full")}
	o := <-done
	if remote.KindOf(o.err) != remote.NoSpace || len(o.left.Items) != 1 || o.left.LeftOut != 2 || !strings.Contains(o.err.Error(), "full") {
		t.Errorf("%+v", o)
	}
	on.flushy = nil
	if left, err := c.Flush(t.Context(), "/", nil); err != nil || len(left.Items) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
	if got := on.asked(); !slices.Equal(got, []string{"flush /a/ä", "flush /"}) {
		t.Errorf("%q", got)
	}
}

// TestFlushOfAClientThatGoesAway ends on the server's side, too, and does not keep the
// server from being closed.
func TestFlushOfAClientThatGoesAway(t *testing.T) {
	on := &changes{list: many(1), flushy: make(chan error)}
	c := serveChanges(t, on)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Flush(ctx, "/", func(Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	deadline := time.Now().Add(4 * time.Minute)
	for !slices.Contains(on.asked(), "gave up") {
		if time.Now().After(deadline) {
			t.Fatalf("%q", on.asked())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestCloseEndsAFlush that would go on for ever.
func TestCloseEndsAFlush(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	s, err := Listen(name, &target{changes: &changes{list: many(1), flushy: make(chan error)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var closing sync.WaitGroup
	var once sync.Once
	_, err = NewClient(name).Flush(t.Context(), "/", func(Progress) {
		once.Do(func() {
			closing.Go(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	})
	closing.Wait()
	if err == nil {
		t.Error("no error")
	}
}

func TestChangesAreActedOn(t *testing.T) {
	on := &changes{list: many(2)}
	c := serveChanges(t, on)
	n, err := c.RetryAll(t.Context())
	if err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	var files []string
	note := func(e Exported) error { files = append(files, e.File); return nil }
	if err := errors.Join(c.Retry(t.Context(), 7), c.Drop(t.Context(), 8), c.Pause(t.Context(), true), c.Pause(t.Context(), false),
		c.Export(t.Context(), "/tmp/ä", []uint64{1, 2}, note), c.Export(t.Context(), "/tmp", nil, note)); err != nil {
		t.Error(err)
	}
	if got, want := on.asked(), []string{"retry all", "retry 7", "drop 8", "pause true", "pause false", "export /tmp/ä [1 2]", "export /tmp []"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if want := []string{"/tmp/ä/a/file ä 0", "/tmp/ä/a/file ä 1", "/tmp/a/file ä 0", "/tmp/a/file ä 1"}; !slices.Equal(files, want) {
		t.Errorf("%q", files)
	}
	on.err = &remote.Error{Op: "x", Kind: remote.NotExist, Err: errors.New("no change 9")}
	for _, err := range []error{c.Retry(t.Context(), 9), c.Drop(t.Context(), 9), c.Pause(t.Context(), true), c.Export(t.Context(), "/tmp", nil, note)} {
		if remote.KindOf(err) != remote.NotExist || !strings.Contains(err.Error(), "no change 9") {
			t.Errorf("%v", err)
		}
	}
}

func TestBadRequestsOfChanges(t *testing.T) {
	on := &changes{list: many(1)}
	c := serveChanges(t, on)
	post := func(path string, body any) error { return c.post(t.Context(), "test", path, body, new(struct{})) }
	for what, err := range map[string]error{
		"drop without consent": post(pathDrop, dropRequest{ID: 1}),
		"retry of nothing":     post(pathRetry, retryRequest{}),
		"retry of both":        post(pathRetry, retryRequest{ID: 1, All: true}),
		"unknown field":        post(pathRetry, map[string]any{"id": 1, "force": true}),
		"relative directory":   c.Export(t.Context(), "here", nil, nil),
		"bad path":             post(pathFlush, pathRequest{Path: "a/../b"}),
		"broken name":          c.Export(t.Context(), "/\xff", nil, nil),
	} {
		if remote.KindOf(err) != remote.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := c.Flush(t.Context(), "/\xff", nil); remote.KindOf(err) != remote.Invalid {
		t.Errorf("%v", err)
	}
	if got := on.asked(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
