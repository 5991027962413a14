package keep

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Bundles implements remote.Bundler: there are none. What a server packs are the archives,
// and not what is in them.
func (k *Backend) Bundles() remote.Bundles { return remote.Bundles{} }

// ReadBundle implements remote.Bundler. It is Unsupported.
func (k *Backend) ReadBundle(_ context.Context, dir string, _ []remote.BundleFile, _ func(int, []byte) error) error {
	return &remote.Error{Op: "readbundle", Path: dir, Kind: remote.Unsupported}
}
