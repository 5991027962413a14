package webdav_test

import (
	"bytes"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// behind returns the address of a server as seen through a proxy.
func behind(t *testing.T, address string) (*remotetest.Proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := remotetest.NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}

// portOf returns the port of a server.
func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// fetch reads a whole file, and waits for a transfer that the server has not yet seen
// to be dead.
func fetch(t *testing.T, b *webdav.Backend, path string) []byte {
	t.Helper()
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		e, err := b.Stat(t.Context(), path)
		if err == nil {
			p := make([]byte, e.Size)
			if e.Size == 0 {
				return p
			}
			if _, err = b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, p, 0); err == nil {
				return p
			}
		}
		if wait > time.Minute || !errors.Is(err, remote.Locked) && !errors.Is(err, remote.Changed) {
			t.Fatalf("read: %v", err)
		}
		time.Sleep(wait)
	}
}

// cutting is an overwrite that is cut at some byte.
type cutting struct {
	*testing.T
	proxy       *remotetest.Proxy
	clean, torn *webdav.Backend // past and through the proxy
	port        int             // of the server
	n           int             // overwrites so far
	old         []byte
	seen        struct{ old, new, failed, unsure int }
}

const cutSize = 60_000

// overwrite puts new content, cut by cut(), and checks what is there afterwards.
func (c *cutting) overwrite(cut func()) {
	c.Helper()
	c.n++
	fresh := remotetest.Pattern(cutSize+c.n, byte(c.n))
	cut()
	_, err := c.torn.Put(c.Context(), "/f", remotetest.Bytes(fresh), remote.PutOptions{})
	c.proxy.CutUp(-1)
	c.proxy.CutDown(-1)
	got := fetch(c.T, c.clean, "/f")
	if err != nil && bytes.Equal(got, c.old) {
		// A request that was cut may still be on its way through the server.
		if err := harness.Settled(c.Context(), c.port); err != nil {
			c.Fatal(err)
		}
		got = fetch(c.T, c.clean, "/f")
	}
	var e *remote.Error
	unsure := errors.As(err, &e) && e.Unsure
	switch isNew := bytes.Equal(got, fresh); {
	case !isNew && !bytes.Equal(got, c.old):
		c.Errorf("overwrite %d: neither the old content nor the new but %d bytes (error %v)", c.n, len(got), err)
	case !isNew && err == nil:
		c.Errorf("overwrite %d: acknowledged, but the old content is there", c.n)
	case isNew && err != nil && !unsure:
		c.Errorf("overwrite %d: the new content is there, but the error is not unsure: %v", c.n, err)
	case isNew:
		c.seen.new++
		c.old = fresh
	default:
		c.seen.old++
	}
	if err != nil {
		c.seen.failed++
	}
	if unsure {
		c.seen.unsure++
	}
}

// TestCutOverwrite cuts the connection at many places of an overwrite, up and down, in
// each dialect: the server holds the old content or the new, and the caller knows
// which unless it is told that it cannot know.
func TestCutOverwrite(t *testing.T) {
	for _, s := range servers() {
		if slices.Contains(twins, s.name) && !long() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			address := s.start(t)
			proxy, through := behind(t, address)
			c := &cutting{T: t, proxy: proxy, port: portOf(t, address), clean: dial(t, options(t, address)), torn: dial(t, options(t, through))}
			defer c.clean.Close()
			defer c.torn.Close()
			c.old = []byte("old")
			if _, err := c.clean.Put(t.Context(), "/f", remotetest.Bytes(c.old), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			before := proxy.Stats()
			c.overwrite(func() {})
			after := proxy.Stats()
			up, down := after.Up-before.Up, after.Down-before.Down
			cuts := int64(20)
			if long() {
				cuts = 50
			}
			for i := range cuts {
				c.overwrite(func() { proxy.CutUp(i * up / cuts) })
			}
			for i := range cuts / 2 {
				c.overwrite(func() { proxy.CutDown(i * down * 2 / cuts) })
			}
			if c.seen.failed < int(cuts/4) || c.seen.new < 2 || c.seen.old < int(cuts/8) {
				t.Errorf("the cuts did not cut: %+v", c.seen)
			}
			t.Logf("%+v, %d bytes up, %d down", c.seen, up, down)
			if all, err := names(t, c.clean, "/"); err != nil || len(all) != 1 {
				t.Errorf("left behind: %q, %v", all, err)
			}
		})
	}
}

// names lists the names in dir.
func names(t *testing.T, b *webdav.Backend, dir string) ([]string, error) {
	t.Helper()
	var all []string
	err := b.List(t.Context(), dir, func(e remote.Entry) error {
		all = append(all, e.Path)
		return nil
	})
	return all, err
}
