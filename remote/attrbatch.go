package remote

import "context"

// AttrBatcher is the ability to set attributes of many entries in fewer requests, or with
// less waiting, than one by one.
type AttrBatcher interface {
	// AttrBatches tells how many entries are worth one call at most; 1 or less: there is
	// nothing to win. It costs no request.
	AttrBatches() int

	// SetAttrBatch does what SetAttr does for each item, in no order. No two items have the
	// same path. There is one result for each item, at the same place, and one item that
	// fails says nothing of the others. Unsupported: nothing was done for this item, and it
	// is to be set alone. An error of SetAttrBatch itself is that of each item. Items may be
	// compared with what they were a moment ago: what others change of an entry's
	// attributes during the call may be lost, as it may in SetAttr. It calls Progress as it
	// goes on.
	SetAttrBatch(ctx context.Context, items []AttrItem) ([]BatchResult, error)
}

// AttrItem is an entry whose attributes are to be set, as those of SetAttr.
type AttrItem struct {
	Path  string
	Attrs Attrs
}

// AttrBatches implements AttrBatcher. It is 0 if the adapter has not this ability.
func (d *decorator) AttrBatches() int {
	if inner, ok := As[AttrBatcher](d.inner); ok {
		return inner.AttrBatches()
	}
	return 0
}

// SetAttrBatch implements AttrBatcher.
func (d *decorator) SetAttrBatch(ctx context.Context, items []AttrItem) ([]BatchResult, error) {
	c := &Call{Op: OpSetAttrBatch, AttrItems: items}
	if len(items) > 0 {
		c.Path = items[0].Path
	}
	inner, ok := As[AttrBatcher](d.inner)
	if !ok {
		return nil, c.Fail(Unsupported, errNoAbility)
	}
	err := d.run(ctx, c, func(ctx context.Context) (err error) {
		c.Stored, err = inner.SetAttrBatch(ctx, c.AttrItems)
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
