package browse

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// wanted is a file of a bundle.
type wanted struct {
	member
	i int // its place
}

// bundle answers ReadBundle. The members of a view are read in the order in which they lie
// in the archive, by pages; the server would pack no view.
func (b *Backend) bundle(ctx context.Context, c *remote.Call, next remote.Next) error {
	of := slices.IndexFunc(c.Bundle, func(f remote.BundleFile) bool { return f.Want })
	if of < 0 || !strings.HasPrefix(c.Bundle[of].Ref.Version, versionPrefix) {
		return next(ctx)
	}
	var all []wanted
	for i, f := range c.Bundle {
		if !f.Want {
			continue
		}
		one := &remote.Call{Op: c.Op, Path: f.Ref.Path, Ref: f.Ref}
		m, handled, err := b.member(ctx, one)
		switch {
		case err != nil:
			return fault(one, err)
		case handled:
			all = append(all, wanted{m, i})
		}
	}
	slices.SortFunc(all, func(x, y wanted) int { return cmp.Compare(x.item.At, y.item.At) })
	var buf []byte
	for _, w := range all {
		buf = slices.Grow(buf[:0], int(w.item.Size))[:w.item.Size]
		if _, err := b.readMember(ctx, w.member, buf, 0); err != nil {
			if ends(err) {
				return fault(c, err)
			}
			continue // who reads it alone is told
		}
		c.N += len(buf)
		if c.Halt = c.Unpack(w.i, buf); c.Halt != nil {
			return nil
		}
	}
	return nil
}

// ends tells whether an error is not that of one member.
func ends(err error) bool {
	var e *remote.Error
	return isContextErr(err) || errors.As(err, &e) && e.Kind != remote.Corrupt
}
