package memory

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Batches implements remote.Batcher.
func (b *Backend) Batches() remote.Batches { return b.opts.Batches }

// PutBatch implements remote.Batcher. Attributes that may be set later are.
func (b *Backend) PutBatch(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	if err := remote.ContextErr(ctx); err != nil {
		return nil, err
	}
	results := make([]remote.BatchResult, len(items))
	for i, it := range items {
		if most := b.opts.Batches.Size; it.Source.Size() > most {
			results[i].Err = fail("put", it.Path, remote.Unsupported)
			continue
		}
		if it.Later {
			it.Attrs, results[i].Rest = remote.Attrs{}, it.Attrs
			if it.Loose {
				results[i].Rest.MTime = nil
			}
			if results[i].Rest.Spares(remote.File) {
				results[i].Rest.Mode = nil
			}
			results[i].Rest.Usual = nil
		}
		results[i].Entry, results[i].Err = b.Put(ctx, it.Path, it.Source,
			remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: it.Attrs, Loose: it.Loose, Redo: it.Redo, Tag: it.Tag})
	}
	return results, nil
}

// attrBatch is how many entries' attributes are set in one call.
const attrBatch = 100

// AttrBatches implements remote.AttrBatcher.
func (b *Backend) AttrBatches() int { return attrBatch }

// SetAttrBatch implements remote.AttrBatcher.
func (b *Backend) SetAttrBatch(ctx context.Context, items []remote.AttrItem) ([]remote.BatchResult, error) {
	if err := remote.ContextErr(ctx); err != nil {
		return nil, err
	}
	results := make([]remote.BatchResult, len(items))
	for i, it := range items {
		results[i].Entry, results[i].Err = b.SetAttr(ctx, it.Path, it.Attrs)
		remote.Progress(ctx)
	}
	return results, nil
}
