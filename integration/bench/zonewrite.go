package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/meshmount/meshmount/remote"
)

// zoneTarget is a new collection of the zone, looked at in its catalog.
func (w *world) zoneTarget(ctx context.Context, name string) (*target, error) {
	top := "/" + name
	if _, err := w.catalog.Mkdir(ctx, top); err != nil {
		return nil, err
	}
	return &target{name: name, pending: func(ctx context.Context, files []file) ([]file, error) {
		return w.notInCatalog(ctx, top, files)
	}, check: func(ctx context.Context, files []file) error {
		for _, f := range files {
			err := w.checkObject(ctx, path.Join(top, f.path), f)
			for errors.Is(err, remote.Changed) && pause(ctx) == nil { // it has just got its time
				err = w.checkObject(ctx, path.Join(top, f.path), f)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.path, err)
			}
		}
		return nil
	}, gone: func(ctx context.Context, dir string) (bool, error) {
		_, err := w.catalog.Stat(ctx, path.Join(top, dir))
		if errors.Is(err, remote.NotExist) {
			return true, nil
		}
		return false, err
	}, remove: func() error { return w.catalog.RemoveTree(context.WithoutCancel(ctx), top) }}, nil
}

// notInCatalog returns the files of one collection whose objects are not registered with
// their size.
func (w *world) notInCatalog(ctx context.Context, top string, files []file) ([]file, error) {
	there := map[string]int64{}
	err := w.catalog.List(ctx, top, func(e remote.Entry) error {
		there[e.Path] = e.Size
		return nil
	})
	if err != nil {
		return nil, err
	}
	var left []file
	for _, f := range files {
		if size, ok := there[path.Join(top, f.path)]; !ok || size != f.size {
			left = append(left, f)
		}
	}
	return left, nil
}

// checkObject reads an object and compares it.
func (w *world) checkObject(ctx context.Context, name string, f file) (err error) {
	r, err := w.catalog.Open(ctx, remote.Ref{Path: name, Size: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < f.size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), f.size-off)])
		if err != nil {
			return err
		}
		if err := w.pattern.check(f.seed, off, buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}
