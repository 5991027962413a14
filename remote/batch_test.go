package remote_test

import (
	"context"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// deaf is a Batcher of which every file fails with an error of its own.
type deaf struct {
	*memory.Backend
	kind remote.Kind
}

func (d deaf) PutBatch(_ context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	out := make([]remote.BatchResult, len(items))
	for i, it := range items {
		out[i].Err = remote.E("put", it.Path, d.kind, nil)
	}
	return out, nil
}

// TestBatchThatReachesNobody wants decorators to hear of a server that cannot be had, also
// if every file says so for itself.
func TestBatchThatReachesNobody(t *testing.T) {
	items := []remote.BatchItem{{Path: "/a", Source: remotetest.Bytes(nil)}, {Path: "/b", Source: remotetest.Bytes(nil)}}
	for kind, whole := range map[remote.Kind]bool{remote.Unavailable: true, remote.Auth: true, remote.Exist: false} {
		var heard error
		b := remote.Intercept(deaf{memory.New(memory.Options{}), kind}, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
			heard = next(ctx)
			return heard
		})
		batcher, _ := remote.As[remote.Batcher](b)
		got, err := batcher.PutBatch(t.Context(), items)
		if whole && (remote.KindOf(heard) != kind || remote.KindOf(err) != kind) {
			t.Errorf("%v: a decorator heard %v, the caller %v", kind, heard, err)
		} else if !whole && (heard != nil || err != nil || len(got) != 2 || remote.KindOf(got[1].Err) != kind) {
			t.Errorf("%v: a decorator heard %v, the caller %v and %+v", kind, heard, err, got)
		}
	}
}
