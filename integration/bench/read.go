package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is what cat and other programs read at a time, as a rule.
const bufferSize = 128 << 10

// meter takes what a piece of work has done. Its fields are guarded by mu while several
// goroutines work.
type meter struct {
	mu   sync.Mutex
	work float64         // bytes, files, or reads
	lat  []time.Duration // of single steps, if they matter
}

func (m *meter) add(work float64) {
	m.mu.Lock()
	m.work += work
	m.mu.Unlock()
}

// retry makes a system call again that a signal has interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// open opens a file for reading without the runtime's poller, as other programs do.
func open(name string) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// readFile reads a file from its beginning to its end as cat does, checks it unless p is
// nil, and adds the bytes to m if it is not nil.
func readFile(ctx context.Context, dir string, f file, p *pattern, m *meter) (err error) {
	name := filepath.Join(dir, filepath.FromSlash(f.path))
	fd, err := open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // as cat does; not all file systems take it
	buf := make([]byte, min(f.size+1, bufferSize))
	off := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil {
			return &fs.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			break
		}
		if p != nil {
			if err := p.check(f.seed, off, buf[:n]); err != nil {
				return fmt.Errorf("%s: %w", f.path, err)
			}
		}
		if off += int64(n); m != nil {
			m.add(float64(n))
		}
	}
	if off != f.size {
		return fmt.Errorf("%s: %d bytes of %d", f.path, off, f.size)
	}
	return nil
}

// readTogether reads files, some at a time, in their order. It adds the bytes of each to
// m, or else one for each file.
func readTogether(ctx context.Context, dir string, files []file, at int, p *pattern, m *meter, countBytes bool) error {
	next := make(chan file)
	failed := make([]error, at)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for n := range at {
		all.Go(func() {
			for f := range next {
				var bytes *meter
				if countBytes {
					bytes = m
				}
				if failed[n] = readFile(ctx, dir, f, p, bytes); failed[n] != nil {
					cancel()
					return
				}
				if !countBytes {
					m.add(1)
				}
			}
		})
	}
feeding:
	for _, f := range files {
		select {
		case next <- f:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	all.Wait()
	for _, err := range failed {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(failed...)
}

// firstBytes opens each file, reads its first page, and notes how long that took.
func firstBytes(ctx context.Context, dir string, files []file, p *pattern, m *meter) error {
	buf := make([]byte, pageSize)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		begin := time.Now()
		fd, err := open(filepath.Join(dir, filepath.FromSlash(f.path)))
		if err != nil {
			return err
		}
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf, 0) })
		m.lat = append(m.lat, time.Since(begin))
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = p.check(f.seed, 0, buf[:n])
		}
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return err
		}
		m.add(1)
	}
	return nil
}

// readRandom reads pages at random places, one after the other, for at most a time.
func readRandom(ctx context.Context, dir string, f file, reads int, most time.Duration, p *pattern, m *meter) (err error) {
	fd, err := open(filepath.Join(dir, filepath.FromSlash(f.path)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	rnd := rand.New(rand.NewPCG(f.seed, uint64(reads)))
	buf := make([]byte, pageSize)
	end := time.Now().Add(most)
	for range reads {
		begin := time.Now()
		if err := ctx.Err(); err != nil || begin.After(end) {
			return err
		}
		off := rnd.Int64N(f.size/pageSize) * pageSize
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf, off) })
		if err != nil {
			return err
		}
		m.lat = append(m.lat, time.Since(begin))
		m.add(1)
		if err := p.check(f.seed, off, buf[:n]); err != nil || n != len(buf) {
			return fmt.Errorf("%d bytes at %d: %w", n, off, err)
		}
	}
	return nil
}

// listAll runs ls -lR and compares the number of files with what is known.
func listAll(ctx context.Context, dir string, want int, m *meter) error {
	var errText bytes.Buffer
	cmd := exec.CommandContext(ctx, "ls", "-lR", dir)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.Stderr = &errText
	out, err := cmd.Output()
	for line := range bytes.Lines(out) {
		if line[0] == '-' {
			m.add(1)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("ls: %w: %s", err, firstLine(errText.String()))
	}
	if int(m.work) != want {
		return fmt.Errorf("ls shows %.0f files of %d", m.work, want)
	}
	return nil
}

// tarAll runs tar c on a directory and checks each file in its output.
func tarAll(ctx context.Context, dir, name string, files []file, p *pattern, m *meter) error {
	known := map[string]file{}
	for _, f := range files {
		known[f.path] = f
	}
	cmd := exec.CommandContext(ctx, "tar", "c", "-C", dir, name)
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = checkTar(bufio.NewReaderSize(out, bufferSize), known, p, m)
	if errWait := cmd.Wait(); err == nil && errWait != nil {
		err = fmt.Errorf("tar: %w: %s", errWait, firstLine(errText.String()))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && int(m.work) != len(files) {
		err = fmt.Errorf("tar packed %.0f files of %d", m.work, len(files))
	}
	return err
}

// checkTar compares an archive's members with what they should be.
func checkTar(r io.Reader, known map[string]file, p *pattern, m *meter) error {
	members := tar.NewReader(r)
	for {
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r) // the padding
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		f, ok := known[h.Name]
		if !ok || h.Size != f.size {
			return fmt.Errorf("%s with %d bytes does not belong into the archive", h.Name, h.Size)
		}
		data, err := io.ReadAll(members)
		if err != nil {
			return err
		}
		if err := p.check(f.seed, 0, data); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		m.add(1)
	}
}

// oneLine prints an error, which may hold the end of a log, in one line.
func oneLine(err error) string {
	const most = 200
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > most {
		text = text[:most/3] + " ... " + text[len(text)-most*2/3:]
	}
	return text
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
