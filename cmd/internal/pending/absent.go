package pending

import (
	"context"
	"errors"

	"github.com/meshmount/meshmount/remote"
)

// absent is the server of a tree that is not mounted: nobody asks it.
type absent struct{}

var _ remote.Backend = absent{}

func away(op, path string) error {
	return &remote.Error{Op: op, Path: path, Kind: remote.Unavailable,
		Err: errors.New("part of the content is on the server only, and nothing is mounted")}
}

// Caps implements remote.Backend.
func (absent) Caps() remote.Caps { return remote.Caps{} }

// Stat implements remote.Backend.
func (absent) Stat(_ context.Context, path string) (remote.Entry, error) {
	return remote.Entry{}, away("stat", path)
}

// List implements remote.Backend.
func (absent) List(_ context.Context, dir string, _ func(remote.Entry) error) error {
	return away("list", dir)
}

// ReadAt implements remote.Backend.
func (absent) ReadAt(_ context.Context, ref remote.Ref, _ []byte, _ int64) (int, error) {
	return 0, away("read", ref.Path)
}

// Put implements remote.Backend.
func (absent) Put(_ context.Context, path string, _ remote.Source, _ remote.PutOptions) (remote.Entry, error) {
	return remote.Entry{}, away("put", path)
}

// Mkdir implements remote.Backend.
func (absent) Mkdir(_ context.Context, path string) (remote.Entry, error) {
	return remote.Entry{}, away("mkdir", path)
}

// Remove implements remote.Backend.
func (absent) Remove(_ context.Context, path string, _ remote.RemoveOptions) error {
	return away("remove", path)
}

// Rename implements remote.Backend.
func (absent) Rename(_ context.Context, from, _ string, _ remote.RenameOptions) error {
	return away("rename", from)
}

// Close implements remote.Backend.
func (absent) Close() error { return nil }
