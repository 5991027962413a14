package keep_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
)

// TestBatchAgainAfterPlain repeats the upload of a new file that an attempt before has put as a
// plain file, alone: with others now, of which an archive is made. It is not in that.
func TestBatchAgainAfterPlain(t *testing.T) {
	b := newBed(t)
	b.put(b.server, "/d/a", "content a")
	var dead atomic.Bool
	k := keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if dead.Load() {
			return c.Fail(remote.Unavailable, nil)
		}
		dead.Store(c.Op == remote.OpPut)
		return next(ctx)
	}), keep.Options{})
	again := items(map[string]string{"/d/a": "content a", "/d/b": "content b", "/d/c": "content c"})
	for i := range again {
		again[i].Redo = true
	}
	got, err := k.PutBatch(t.Context(), again)
	if err != nil || remote.KindOf(got[0].Err) != remote.Exist {
		t.Errorf("%+v (%v)", got, err)
	}
	if found := tree(t, b.client(), "/d"); len(found) != 3 || found["/d/a"] != "content a" {
		t.Errorf("it died after the archive was stored, and there is %q", found)
	}
}
