package irods

import (
	"context"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Replicas implements remote.Replicator.
func (b *Backend) Replicas(ctx context.Context, path string) (list []remote.Replica, err error) {
	const op = "replicas"
	if err := b.check(op, path); err != nil {
		return nil, absent(op, path, err)
	}
	err = b.do(ctx, op, path, false, func(s *session) error {
		coll, name := splitFull(b.full(path))
		c := ask(b.zone, wire.ColReplStatus, wire.ColDataSize, wire.ColDataModifyTime, wire.ColDataChecksum,
			wire.ColDataRescHier, wire.ColRescLocation).orderBy(wire.ColReplNum).
			equal(wire.ColCollName, coll).equal(wire.ColDataName, name)
		if list, err = readReplicas(ctx, s, c); err != nil || len(list) > 0 {
			return err
		}
		f, err := b.lookAt(ctx, s, b.full(path))
		switch {
		case err != nil:
			return err
		case f.coll != nil:
			return &remote.Error{Op: op, Path: path, Kind: remote.IsDir}
		}
		return &remote.Error{Op: op, Path: path, Kind: remote.NotExist}
	})
	return list, err
}

func readReplicas(ctx context.Context, s *session, c *cursor) (list []remote.Replica, err error) {
	for {
		more, err := c.next(ctx, s)
		if err != nil || !more {
			return list, err
		}
		r := reader{c: c}
		list = append(list, remote.Replica{
			Number:   int(r.number(wire.ColReplNum)),
			Resource: strings.Clone(c.text(wire.ColDataRescHier)),
			Host:     strings.Clone(c.text(wire.ColRescLocation)),
			State:    replicaState(int(r.number(wire.ColReplStatus))),
			Size:     r.number(wire.ColDataSize),
			MTime:    time.Unix(r.number(wire.ColDataModifyTime), 0),
			Checksum: parseChecksum(c.text(wire.ColDataChecksum)),
		})
		if r.err != nil {
			return nil, r.err
		}
	}
}

func replicaState(status int) remote.ReplicaState {
	switch status {
	case wire.ReplicaGood:
		return remote.ReplicaGood
	case wire.ReplicaIntermediate:
		return remote.ReplicaIntermediate
	case wire.ReplicaReadLocked, wire.ReplicaWriteLocked:
		return remote.ReplicaLocked
	}
	return remote.ReplicaStale
}

// Usage implements remote.Usager. What is used is not known: adding it up costs the
// catalog too much. What is left is known if the resource of new objects tells its free
// space: Options.Resource, or the only one that tells it.
func (b *Backend) Usage(ctx context.Context) (remote.Usage, error) {
	u := remote.Usage{Used: -1, Available: -1}
	err := b.do(ctx, "usage", "/", false, func(s *session) error {
		c := ask(b.zone, wire.ColRescName, wire.ColRescFreeSpace)
		if b.opts.Resource != "" {
			c.equal(wire.ColRescName, b.opts.Resource)
		}
		known := 0
		for {
			more, err := c.next(ctx, s)
			if err != nil || !more {
				return err
			}
			n, err := c.number(wire.ColRescFreeSpace)
			if err != nil || n <= 0 {
				continue // administrators write there what they like
			}
			if known++; known > 1 {
				u.Available = -1
				continue
			}
			u.Available = n
		}
	})
	return u, err
}
