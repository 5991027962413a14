package keep_test

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// readEntry reads a file as it was listed.
func readEntry(ctx context.Context, b remote.Backend, e remote.Entry) (string, error) {
	p := make([]byte, e.Size+1)
	n, err := b.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, 0)
	if err == io.EOF && int64(n) == e.Size {
		err = nil
	}
	return string(p[:n]), err
}

// snapshot returns the contents of the files below dir by path, and directories with a
// slash at the end. Listing, looking and reading have to agree.
func (x *explorer) snapshot(ctx context.Context, b remote.Backend, dir string, into map[string]string) {
	var all []remote.Entry
	if err := b.List(ctx, dir, func(e remote.Entry) error { all = append(all, e); return nil }); err != nil {
		x.violation("at the end, list %s: %v", dir, err)
	}
	for _, e := range all {
		now, err := b.Stat(ctx, e.Path)
		if err != nil || now.Version != e.Version || now.Size != e.Size || !now.MTime.Equal(e.MTime) {
			x.violation("at the end, %s is listed as %+v, and a look shows %+v, %v", e.Path, e, now, err)
		}
		path := e.Path
		if e.Type == remote.Dir {
			path += "/"
		}
		if _, twice := into[path]; twice {
			x.violation("at the end, %s is listed twice", path)
		}
		if into[path] = ""; e.Type == remote.Dir {
			x.snapshot(ctx, b, e.Path, into)
			continue
		}
		if into[path], err = readEntry(ctx, b, e); err != nil {
			x.violation("at the end, read %s: %v", path, err)
		}
	}
}

// fresh returns a client that has seen nothing and that nothing happens to.
func (x *explorer) fresh() *keep.Backend { return keep.Wrap(x.server, keep.Options{}) }

// all returns what a new client shows.
func (x *explorer) all(ctx context.Context) map[string]string {
	got := map[string]string{}
	x.snapshot(ctx, x.fresh(), "/", got)
	return got
}

// finish judges what the clients have left.
func (x *explorer) finish(ctx context.Context) {
	for len(x.late) > 0 {
		x.clock++
		if i := x.rng.IntN(len(x.late)); x.rng.IntN(2) == 0 {
			x.land(i)
		} else {
			x.late = slices.Delete(x.late, i, i+1) // it never comes
		}
	}
	got := x.all(ctx)
	for _, text := range x.model.judge(got) {
		x.violation("%s", text)
	}
	x.raw(ctx)
	if len(x.wrong) > 0 {
		return
	}
	for _, wait := range []time.Duration{0, 2 * time.Minute, 2 * time.Minute, 8 * 24 * time.Hour, 2 * time.Minute} {
		time.Sleep(wait)
		x.stir(ctx, got)
		x.same(ctx, fmt.Sprintf("after work of %v later", wait), got)
	}
	x.raw(ctx)
	x.convert(ctx, got)
	if len(x.wrong) == 0 {
		x.clear(ctx, got)
	}
}

// stir writes and removes some files in each directory, so that what is old is cleared away.
func (x *explorer) stir(ctx context.Context, got map[string]string) {
	k := x.fresh()
	for _, path := range slices.Sorted(maps.Keys(got)) {
		dir, ok := strings.CutSuffix(path, "/")
		if !ok {
			continue
		}
		items := []remote.BatchItem{{Path: dir + "/stir1", Source: remotetest.Bytes([]byte("1"))}, {Path: dir + "/stir2", Source: remotetest.Bytes([]byte("2"))}}
		results, err := k.PutBatch(ctx, items)
		for i := range results {
			err = errors.Join(err, results[i].Err, k.Remove(ctx, items[i].Path, remote.RemoveOptions{Type: remote.File}))
		}
		if err != nil {
			x.violation("at the end, work in %s: %v", dir, err)
		}
	}
}

// same wants that what shows is as it was.
func (x *explorer) same(ctx context.Context, when string, want map[string]string) {
	got := x.all(ctx)
	if maps.Equal(got, want) {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if text, ok := got[path]; !ok || text != want[path] {
			x.violation("%s, %s is %v, %.30q, and was %.30q", when, path, ok, text, want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			x.violation("%s, there is %s: %.30q", when, path, got[path])
		}
	}
}

// isZip tells whether a path is one of an archive.
func isZip(path string) bool {
	_, name := remote.Split(path)
	return strings.HasPrefix(name, ".meshmount-") && strings.HasSuffix(name, ".zip")
}

// isFirst tells whether the path of an archive is one of its first generation.
func isFirst(path string) bool { return strings.HasSuffix(path, ".0.zip") }

// hidden tells whether a path is one of our own files.
func hidden(path string) bool {
	_, name := remote.Split(path)
	return strings.HasPrefix(name, ".meshmount-")
}

// raw wants every archive on the server to be a whole zip, and every file in it one that a
// client has written.
func (x *explorer) raw(ctx context.Context) {
	all := map[string]string{}
	x.snapshot(ctx, x.server, "/", all)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !isZip(path) {
			continue
		}
		z, err := zip.NewReader(strings.NewReader(all[path]), int64(len(all[path])))
		if err != nil {
			x.violation("%s is no zip: %v", path, err)
			continue
		}
		for _, f := range z.File {
			text, err := unzipped(f)
			if err != nil {
				x.violation("%s in %s: %v", f.Name, path, err)
			}
			ours := f.Name == ".meshmount.json" || strings.HasPrefix(f.Name, "stir")
			if c := x.model.byText[text]; !ours && (c == nil || !c.when.Truncate(time.Second).Equal(f.Modified.UTC())) {
				x.violation("%s in %s holds %.40q of %v", f.Name, path, text, f.Modified)
			}
		}
	}
}

func unzipped(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), errors.Join(err, r.Close())
}

// convert unpacks all and packs it again.
func (x *explorer) convert(ctx context.Context, got map[string]string) {
	done, err := x.fresh().Unpack(ctx, "/")
	if err != nil || len(done.Left) > 0 {
		x.violation("unpacking: %+v, %v", done, err)
	}
	x.once(ctx, got)
	x.same(ctx, "after unpacking", got)
	raw := map[string]string{}
	x.snapshot(ctx, x.server, "/", raw)
	maps.DeleteFunc(raw, func(path, _ string) bool { return hidden(path) })
	if !maps.Equal(raw, got) {
		x.violation("unpacked, the server has the plain files %q, and %q shows", slices.Sorted(maps.Keys(raw)), slices.Sorted(maps.Keys(got)))
	}
	done, err = x.fresh().Pack(ctx, "/", 1<<20)
	if err != nil || len(done.Left) > 0 {
		x.violation("packing: %+v, %v", done, err)
	}
	x.same(ctx, "after packing", got)
	x.raw(ctx)
	time.Sleep(2 * time.Minute)
	x.stir(ctx, got)
	x.same(ctx, "after work on what was packed", got)
}

// once takes out of what showed before unpacking what was there twice, and is not any more:
// files that were stored once more after an answer was lost.
func (x *explorer) once(ctx context.Context, got map[string]string) {
	now := x.all(ctx)
	for path, text := range got {
		name := path[:max(strings.LastIndex(path, ".conflict-"), 0)]
		if _, there := now[path]; !there && now[name] == text && got[name] == text {
			delete(got, path)
		}
	}
}

// clear removes all files and all directories, and wants nothing to be left.
func (x *explorer) clear(ctx context.Context, got map[string]string) {
	k := x.fresh()
	paths := slices.Sorted(maps.Keys(got))
	slices.Reverse(paths) // what is below a directory comes before it
	for _, path := range paths {
		dir, isDir := strings.CutSuffix(path, "/")
		if !isDir {
			if err := k.Remove(ctx, path, remote.RemoveOptions{Type: remote.File}); err != nil {
				x.violation("removing %s: %v", path, err)
			}
			continue
		}
		if err := k.Remove(ctx, dir, remote.RemoveOptions{Type: remote.Dir}); err != nil {
			x.violation("removing %s: %v", path, err)
		}
	}
	raw := map[string]string{}
	x.snapshot(ctx, x.server, "/", raw)
	if len(raw) > 0 {
		x.violation("the server still has %q", slices.Sorted(maps.Keys(raw)))
	}
}
