package memory

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Bundles implements remote.Bundler.
func (b *Backend) Bundles() remote.Bundles { return b.opts.Bundles }

// ReadBundle implements remote.Bundler.
func (b *Backend) ReadBundle(ctx context.Context, dir string, files []remote.BundleFile, yield func(int, []byte) error) error {
	if err := b.begin(ctx, "readbundle", dir); err != nil {
		return err
	}
	for i, f := range files {
		if err := remote.ContextErr(ctx); err != nil {
			return err
		}
		if parent, _ := remote.Split(f.Ref.Path); !f.Want || parent != dir || f.Ref.Size > b.opts.Bundles.Size {
			continue
		}
		data, err := b.content(ctx, "readbundle", f.Ref)
		if err != nil || int64(len(data)) != f.Ref.Size {
			continue // it tells what is wrong when it is read alone
		}
		remote.Progress(ctx)
		if err := remote.Received(ctx, len(data)); err != nil {
			return err
		}
		if err := yield(i, data); err != nil {
			return err
		}
	}
	return nil
}
