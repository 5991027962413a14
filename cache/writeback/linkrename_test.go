package writeback

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestRenamedOverReplacedLink renames a file of the server to the name of a link that was written
// over while it was being made: that is ours, and no conflict.
func TestRenamedOverReplacedLink(t *testing.T) {
	ctx := t.Context()
	begun, goOn := make(chan struct{}), make(chan struct{})
	server := memory.New(memory.Options{})
	below := remote.Intercept(server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpSymlink {
			close(begun)
			<-goOn
		}
		return next(ctx)
	})
	s, b := openBranch(t, t.TempDir(), below, Options{RetryWait: time.Millisecond, Hostname: "here"}, Policy{})
	if _, err := b.Put(ctx, "/a", remotetest.Bytes([]byte("content a")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	b.queue.last("/a").tried = true // so that it is renamed there
	s.mu.Unlock()
	if _, err := b.Symlink(ctx, "/b", "target"); err != nil {
		t.Fatal(err)
	}
	s.Start()
	<-begun
	if _, err := b.Put(ctx, "/b", remotetest.Bytes([]byte("in between")), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	renamed := make(chan error, 1)
	go func() { renamed <- b.Rename(ctx, "/a", "/b", remote.RenameOptions{}) }()
	select {
	case err := <-renamed:
		renamed <- err
	case <-time.After(100 * time.Millisecond): // it waits for the server
	}
	close(goOn)
	if err := <-renamed; err != nil {
		t.Error(err)
	}
	if err := s.Flush(ctx, "", "/"); err != nil {
		t.Fatal(err)
	}
	if found := files(t, server); !maps.Equal(found, map[string]string{"/b": "content a"}) {
		t.Errorf("the server has %q", found)
	}
	if found := s.Status().Branches[0].Conflicts; len(found) > 0 {
		t.Errorf("conflicts %+v", found)
	}
}
