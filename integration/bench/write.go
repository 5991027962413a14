package main

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// target is where a piece of work writes: a directory on the server, looked at past the
// client under test.
type target struct {
	name string // below the root of the server's tree
	// pending returns what of files is not on the server in full, at a moment after the
	// call; it may stop at the first.
	pending func(ctx context.Context, files []file) ([]file, error)
	// check compares what the server has with what was written.
	check func(ctx context.Context, files []file) error
	// gone tells whether nothing is left of a directory in it.
	gone func(ctx context.Context, dir string) (bool, error)
	// remove takes all away.
	remove func() error
}

// diskTarget is a new directory on the disk of a server.
func (w *world) diskTarget(at place, name string) (*target, error) {
	top := filepath.Join(w.sides[at].local, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(top, 0o755), os.Chmod(top, 0o777)); err != nil { // the server has an account of its own
		return nil, err
	}
	local := func(f file) string { return filepath.Join(top, filepath.FromSlash(f.path)) }
	return &target{name: name, pending: func(_ context.Context, files []file) ([]file, error) {
		for i, f := range files {
			info, err := os.Lstat(local(f))
			if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != f.size {
				return files[i:], nil
			}
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	}, check: func(ctx context.Context, files []file) error {
		return readTogether(ctx, top, files, 1, w.pattern, &meter{}, false)
	}, gone: func(_ context.Context, dir string) (bool, error) {
		_, err := os.Lstat(filepath.Join(top, dir))
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return false, err
	}, remove: func() error { return putAway(top) }}, nil
}

// lookEvery is how often the server is looked at.
const lookEvery = 10 * time.Millisecond

// arrive waits until all files are on the server; m counts those that are.
func (t *target) arrive(ctx context.Context, files []file, m *meter) error {
	left := files
	for {
		pending, err := t.pending(ctx, left)
		if err != nil {
			return err
		}
		m.add(float64(len(left) - len(pending)))
		if left = pending; len(left) == 0 {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// leave waits until a directory is gone from the server.
func (t *target) leave(ctx context.Context, dir string) error {
	for {
		gone, err := t.gone(ctx, dir)
		if gone || err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(lookEvery):
		return nil
	}
}

// writeFile writes a file as cp does, and closes it.
func writeFile(ctx context.Context, dir string, f file, p *pattern, buf []byte) error {
	out, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(f.path)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	for off := int64(0); off < f.size && err == nil; off += int64(len(buf)) {
		piece := buf[:min(int64(len(buf)), f.size-off)]
		p.fill(f.seed, off, piece)
		if _, err = out.Write(piece); err == nil {
			err = ctx.Err()
		}
	}
	return errors.Join(err, out.Close())
}

// writeFiles writes files one after the other.
func writeFiles(ctx context.Context, dir string, files []file, p *pattern) error {
	buf := make([]byte, bufferSize)
	for _, f := range files {
		if err := writeFile(ctx, dir, f, p, buf); err != nil {
			return err
		}
	}
	return nil
}

// runProgram runs a program to its end.
func runProgram(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, firstLine(string(out)))
	}
	return nil
}

// sourceTree names the files of a tree like that of a program's source: most are small,
// few are large, in directories of directories.
func sourceTree(top string, files, dirs int) []file {
	rnd := rand.New(rand.NewPCG(uint64(files), uint64(dirs)))
	names := []string{top}
	for len(names) < dirs {
		parent := names[rnd.IntN(min(len(names), 1+len(names)/2))]
		names = append(names, fmt.Sprintf("%s/dir%03d", parent, len(names)))
	}
	all := make([]file, files)
	for i := range all {
		dir := names[i%dirs]
		if i >= dirs { // each has one, some have many
			dir = names[rnd.IntN(dirs)]
		}
		size := int64(math.Exp(rnd.NormFloat64()*1.5 + 8)) // 3 KB in the middle, 9 KB on average
		all[i] = file{path: fmt.Sprintf("%s/file%04d.c", dir, i), seed: writeSeed + uint64(i), size: min(size, 1<<20)}
	}
	return all
}

// writeSeed is the first seed of files that are written, far from those that are there.
const writeSeed = 1 << 40

// packTree writes a tar archive of files and their directories.
func packTree(name string, files []file, p *pattern) (err error) {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buffered := bufio.NewWriterSize(out, 1<<20)
	pack := tar.NewWriter(buffered)
	stamp := time.Now().Add(-age).Truncate(time.Second)
	for _, dir := range parentsOf(files) {
		if err := pack.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: stamp}); err != nil {
			return err
		}
	}
	for _, f := range inOrder(files) {
		if err := pack.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: 0o644, Size: f.size, ModTime: stamp}); err != nil {
			return err
		}
		data := make([]byte, f.size)
		p.fill(f.seed, 0, data)
		if _, err := pack.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(pack.Close(), buffered.Flush())
}

// inOrder sorts files by directory, as tar finds them.
func inOrder(files []file) []file {
	return slices.SortedStableFunc(slices.Values(files), func(a, b file) int {
		return cmp.Or(strings.Compare(path.Dir(a.path), path.Dir(b.path)), strings.Compare(a.path, b.path))
	})
}
