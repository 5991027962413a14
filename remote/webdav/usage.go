package webdav

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Usage implements remote.Usager, by the quota properties of the root (RFC 4331).
// Servers write negative numbers for unknown and unlimited.
func (b *Backend) Usage(ctx context.Context) (remote.Usage, error) {
	ctx, c, done, err := b.begin(ctx, "usage", "/")
	if err != nil {
		return remote.Usage{}, err
	}
	defer done()
	f, err := c.lookOnce(ctx, "/", true)
	if err != nil {
		return remote.Usage{}, err
	}
	return f.quota, nil
}
