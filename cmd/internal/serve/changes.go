package serve

import (
	"context"
	"errors"

	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// noChanges are the changes of a mount that has none waiting: it writes through.
type noChanges struct{ frame func() control.Status }

var errThrough = errors.New("the mount writes through: nothing waits to be stored")

func (n noChanges) Status(context.Context, int) (control.Status, error) { return n.frame(), nil }

func (noChanges) Items(context.Context, func(control.Item) error) error { return nil }

func (noChanges) Progress(context.Context) (control.Progress, error) {
	return control.Progress{}, nil
}

func (noChanges) Flush(context.Context, string) (control.Leftovers, error) {
	return control.Leftovers{}, nil
}

func (noChanges) Retry(context.Context, uint64) error { return refuseThrough("retry", remote.NotExist) }

func (noChanges) RetryAll(context.Context) (int, error) { return 0, nil }

func (noChanges) Drop(context.Context, uint64) error { return refuseThrough("drop", remote.NotExist) }

func (noChanges) Export(_ context.Context, _ string, ids []uint64, _ func(control.Exported) error) error {
	if len(ids) == 0 {
		return nil
	}
	return refuseThrough("export", remote.NotExist)
}

func (noChanges) Pause(context.Context, bool) error {
	return refuseThrough("pause", remote.Unsupported)
}

func refuseThrough(op string, kind remote.Kind) error {
	return &remote.Error{Op: op, Kind: kind, Err: errThrough}
}
