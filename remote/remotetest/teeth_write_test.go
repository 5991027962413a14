package remotetest_test

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// otherAttrs is content whose attributes at the end are others.
type otherAttrs struct {
	remote.Growing
	attrs remote.Attrs
}

// Attrs implements remote.Growing.
func (g otherAttrs) Attrs() remote.Attrs { return g.attrs }

// deaf is content that ends where it fails.
type deaf struct {
	remote.Growing
	seen int64
}

// Wait implements remote.Growing.
func (g *deaf) Wait(ctx context.Context, off int64) (int64, bool, error) {
	size, whole, err := g.Growing.Wait(ctx, off)
	if err != nil {
		return g.seen, true, nil
	}
	g.seen = size
	return size, whole, nil
}

// hasty looks at conditions before the first byte only.
type hasty struct{ *memory.Backend }

// PutGrowing implements remote.GrowingPutter.
func (b hasty) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	e, err := b.Stat(ctx, path)
	switch {
	case opts.Cond.NotExist && err == nil:
		return remote.Entry{}, &remote.Error{Op: "putgrowing", Path: path, Kind: remote.Exist}
	case opts.Cond.Version != "" && e.Version != opts.Cond.Version:
		return remote.Entry{}, &remote.Error{Op: "putgrowing", Path: path, Kind: remote.Conflict}
	}
	opts.Cond = remote.Cond{}
	return b.Backend.PutGrowing(ctx, path, src, opts)
}

// littering leaves a file behind when a put of growing content fails.
type littering struct{ *memory.Backend }

// PutGrowing implements remote.GrowingPutter.
func (b littering) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	e, err := b.Backend.PutGrowing(ctx, path, src, opts)
	if err != nil {
		_, _ = b.Put(context.WithoutCancel(ctx), path+".part", remotetest.Bytes(nil), remote.PutOptions{}) // if it can
	}
	return e, err
}

// open shows a new file at once, empty.
type open struct{ *memory.Backend }

// PutGrowing implements remote.GrowingPutter.
func (b open) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (remote.Entry, error) {
	if _, err := b.Put(ctx, path, remotetest.Bytes(nil), opts); err != nil {
		return remote.Entry{}, err
	}
	opts.Cond = remote.Cond{}
	return b.Backend.PutGrowing(ctx, path, src, opts)
}

// inPlace patches what readers see.
type inPlace struct{ *memory.Backend }

// Patch implements remote.Patcher.
func (b inPlace) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	for len(p.Ranges) > 1 {
		one := p
		one.Ranges = p.Ranges[:1]
		e, err := b.Backend.Patch(ctx, path, one, opts)
		if err != nil {
			return e, err
		}
		p.Ranges, opts.Cond.Version = p.Ranges[1:], e.Version
		time.Sleep(20 * time.Millisecond) // readers see it, on a busy machine, too
	}
	return b.Backend.Patch(ctx, path, p, opts)
}

// shifted gives the bytes of the next place.
type shifted struct{ io.ReaderAt }

// ReadAt implements io.ReaderAt.
func (s shifted) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	copy(p, append(bytes.Clone(p[1:]), p[0]))
	return n, err
}

// trusting takes every file for a torn one when it is to redo.
func trusting(ops ...remote.Op) func() remote.Backend {
	return around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		for _, op := range ops {
			if c.Op == op && c.Put.Redo {
				c.Put.Cond = remote.Cond{}
			}
		}
		return next(ctx)
	})
}

// patching is memory that patches whatever is there.
type patching struct{ *memory.Backend }

// Patch implements remote.Patcher.
func (b patching) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (remote.Entry, error) {
	if e, err := b.Stat(ctx, path); err == nil && e.Type == remote.File {
		opts.Cond.Version = e.Version
	}
	return b.Backend.Patch(ctx, path, p, opts)
}

// forgetful never repeats: a torn file stays torn.
type forgetful struct{ *memory.Backend }

// Put implements remote.Backend.
func (b forgetful) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	opts.Redo = false
	return b.Backend.Put(ctx, path, src, opts)
}

var writeMutants = map[string]mutant{
	"shows growing files":      {"Growing", func() remote.Backend { return open{memory.New(memory.Options{})} }},
	"shows growing overwrites": {"Growing", boast(memory.Options{InPlacePut: true})},
	"takes early attributes":   {"Growing", edit(remote.OpPutGrowing, func(c *remote.Call) { c.Growing = otherAttrs{c.Growing, c.Put.Attrs} })},
	"drops attributes":         {"Growing", edit(remote.OpPutGrowing, func(c *remote.Call) { c.Growing = otherAttrs{c.Growing, remote.Attrs{}} })},
	"grows where it may not":   {"GrowingErrors", edit(remote.OpPutGrowing, func(c *remote.Call) { c.Put.Cond = remote.Cond{} })},
	"grows onto directories":   {"GrowingErrors", forgiving(remote.OpPutGrowing, remote.IsDir)},
	"looks before it grows":    {"GrowingCond", func() remote.Backend { return hasty{memory.New(memory.Options{})} }},
	"stores half content":      {"GrowingBreaks", edit(remote.OpPutGrowing, func(c *remote.Call) { c.Growing = &deaf{Growing: c.Growing} })},
	"leaves parts":             {"GrowingBreaks", func() remote.Backend { return littering{memory.New(memory.Options{})} }},
	"grows all into one":       {"GrowingParallel", edit(remote.OpPutGrowing, func(c *remote.Call) { c.Path, c.Put.Cond = "/f0", remote.Cond{} })},
	"patches elsewhere":        {"Patch", edit(remote.OpPatch, func(c *remote.Call) { c.Patch.Bytes = shifted{c.Patch.Bytes} })},
	"patches without size": {"Patch", edit(remote.OpPatch, func(c *remote.Call) {
		for _, r := range c.Patch.Ranges {
			c.Patch.Size = max(1000, r.Offset+r.Length)
		}
	})},
	"patches one range":          {"Patch", edit(remote.OpPatch, func(c *remote.Call) { c.Patch.Ranges = c.Patch.Ranges[:min(1, len(c.Patch.Ranges))] })},
	"drops a patch's attributes": {"Patch", edit(remote.OpPatch, func(c *remote.Call) { c.Put.Attrs = remote.Attrs{} })},
	"patches any version":        {"PatchErrors", func() remote.Backend { return patching{memory.New(memory.Options{})} }},
	"patches what is not there":  {"PatchErrors", forgiving(remote.OpPatch, remote.Conflict)},
	"patches in the open":        {"PatchReaders", func() remote.Backend { return inPlace{memory.New(memory.Options{})} }},
	"leaves mixtures":            {"PatchCut", func() remote.Backend { return inPlace{memory.New(memory.Options{})} }},
	"cannot repeat patches":      {"PatchCut", edit(remote.OpPatch, func(c *remote.Call) { c.Put.Redo = false })},
	"puts not over torn files":   {"PatchCut", func() remote.Backend { return forgetful{memory.New(memory.Options{})} }},
	"loses patches":              {"Model", edit(remote.OpPatch, func(c *remote.Call) { c.Patch.Ranges = nil })},
	"mixes parts of uploads": {"PutCut", edit(remote.OpPut, func(c *remote.Call) {
		if c.Put.Resume != "" {
			c.Put.Resume = "any"
		}
	})},
	"cannot repeat puts":         {"PutCut", func() remote.Backend { return forgetful{memory.New(memory.Options{InPlacePut: true})} }},
	"overwrites when it repeats": {"PutRedo", trusting(remote.OpPut)},
}
