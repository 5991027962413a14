package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

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

// notInCatalog returns the files whose objects are not registered with their size, and those
// that come after the first collection with such: it lists no more.
func (w *world) notInCatalog(ctx context.Context, top string, files []file) (left []file, err error) {
	for len(files) > 0 && len(left) == 0 {
		dir := path.Dir(files[0].path)
		n := slices.IndexFunc(files, func(f file) bool { return path.Dir(f.path) != dir })
		if n < 0 {
			n = len(files)
		}
		if left, err = w.notInCollection(ctx, top, dir, files[:n]); err != nil {
			return nil, err
		}
		files = files[n:]
	}
	return append(left, files...), nil
}

// notInCollection is notInCatalog for the files of one collection.
func (w *world) notInCollection(ctx context.Context, top, dir string, files []file) ([]file, error) {
	there := map[string]int64{}
	err := w.catalog.List(ctx, path.Join(top, dir), func(e remote.Entry) error {
		there[e.Path] = e.Size
		return nil
	})
	if err != nil && !errors.Is(err, remote.NotExist) {
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

// plantObjects makes collections and objects in a place in the zone.
func (w *world) plantObjects(ctx context.Context, to *target, files []file) error {
	for _, dir := range parentsOf(files) {
		if _, err := w.catalog.Mkdir(ctx, path.Join("/", to.name, dir)); err != nil {
			return err
		}
	}
	there := slices.Clone(files)
	for i := range there {
		there[i].path = path.Join(to.name, files[i].path)
	}
	return putAll(ctx, w.catalog, w.pattern, there)
}
