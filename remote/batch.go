package remote

import "context"

// Batcher is the ability to store many small new files in fewer requests, or with less work
// of the server, than one by one.
type Batcher interface {
	// Batches tells what is worth a batch and what one can hold, as far as that is known
	// now. It costs no request.
	Batches() Batches

	// PutBatch stores new files, each as Put with Cond.NotExist does: what is at a path is
	// left alone (Exist), a missing parent is NotExist, and a file that is told to be
	// stored was found there whole, with the size that was sent and, if the server shows
	// one, with the checksum. It never makes directories, and leaves nothing of its own
	// behind if it can reach the server in the end.
	//
	// There is one result for each item, at the same place. One item that fails says
	// nothing of the others. Unsupported: this file, or any, cannot go in a batch; nothing
	// was done for it, and it is to be put alone. An error of PutBatch itself is that of
	// each item; if it is Unsure, any of them may be stored, and may yet be. No two items
	// have the same path. Sources are read by several goroutines.
	PutBatch(ctx context.Context, items []BatchItem) ([]BatchResult, error)
}

// Batches is what a Batcher can do. The zero value is: nothing at present.
type Batches struct {
	// Files and Bytes bound one batch, and Size one of its files. With Files of 1 or less
	// there is nothing to win.
	Files int
	Bytes int64
	Size  int64
	// Parallel is how many batches at a time are of use.
	Parallel int
}

// BatchItem is a file of a batch.
type BatchItem struct {
	Path   string
	Source Source
	// Attrs are as in PutOptions. If Loose, its MTime is only when the content was written,
	// and is dropped if it would cost a request of its own.
	Attrs Attrs
	Loose bool
	// Later: attributes that would cost a request of their own are not set but told in
	// BatchResult.Rest, so that the contents of all are stored before.
	Later bool
	// Redo is as in PutOptions: a file that an attempt before has left torn may be replaced.
	Redo bool
	// Tag is as in PutOptions.
	Tag string
}

// BatchResult is what has become of an item: Entry is as of Put if Err is nil.
type BatchResult struct {
	Entry Entry
	Err   error
	// Rest is what of the attributes of an item with Later is still to be set, with SetAttr:
	// Entry does not show it. An adapter may set all of them at once and leave it empty.
	Rest Attrs
}

// slowedItems are items whose sources take their bytes from a Rate.
func slowedItems(ctx context.Context, items []BatchItem, up *Rate) []BatchItem {
	return withSources(items, func(s Source) Source { return &slowedSource{s, ctx, up} })
}

// awayItems are items whose sources tell a call of each step into them.
func awayItems(items []BatchItem, c *Call) []BatchItem {
	return withSources(items, func(s Source) Source { return &awaySource{s, c} })
}

// withSources copies items with other sources.
func withSources(items []BatchItem, f func(Source) Source) []BatchItem {
	out := make([]BatchItem, len(items))
	for i, it := range items {
		it.Source = f(it.Source)
		out[i] = it
	}
	return out
}

// unreached returns the error of a batch of which every file says that the server cannot be
// had, or does not know us: it is that of the call then, and who judges calls hears of it.
func unreached(all []BatchResult) (err error) {
	for _, r := range all {
		if k := KindOf(r.Err); r.Err == nil || k != Unavailable && k != Auth {
			return nil
		}
		err = r.Err
	}
	return err
}

// Batches implements Batcher. It is zero if the adapter has not this ability.
func (d *decorator) Batches() Batches {
	if inner, ok := As[Batcher](d.inner); ok {
		return inner.Batches()
	}
	return Batches{}
}

// PutBatch implements Batcher.
func (d *decorator) PutBatch(ctx context.Context, items []BatchItem) ([]BatchResult, error) {
	c := &Call{Op: OpPutBatch, Batch: items}
	if len(items) > 0 {
		c.Path = items[0].Path
	}
	inner, ok := As[Batcher](d.inner)
	if !ok {
		return nil, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Stored, err = inner.PutBatch(ctx, awayItems(c.Batch, c))
		if err == nil {
			err = unreached(c.Stored)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.Stored, nil
}
