package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// raw makes plain requests over the path: what it reaches is the limit.
type raw struct {
	base   string
	client *http.Client
}

// newRaw returns a client that keeps up to conns connections.
func newRaw(addr string, conns int) *raw {
	return &raw{"http://" + addr + "/", &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: conns, MaxIdleConnsPerHost: conns, DisableCompression: true, ReadBufferSize: 256 << 10}}}
}

func (r *raw) close() { r.client.CloseIdleConnections() }

// get reads size bytes of a file from off on, and checks them.
func (r *raw) get(ctx context.Context, f file, off, size int64, p *pattern) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+f.path, nil)
	if err != nil {
		return err
	}
	want := http.StatusOK
	if size != f.size {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+size-1))
		want = http.StatusPartialContent
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != want {
		return fmt.Errorf("GET %s: %s", f.path, resp.Status)
	}
	buf := make([]byte, min(size, 256<<10))
	end := off + size
	for off < end {
		n, err := io.ReadFull(resp.Body, buf[:min(int64(len(buf)), end-off)])
		if err != nil {
			return err
		}
		if err := p.check(f.seed, off, buf[:n]); err != nil {
			return err
		}
		off += int64(n)
	}
	_, err = io.Copy(io.Discard, resp.Body) // the end, so that the connection is kept
	return err
}

// parallel calls do for 0 to n-1, some at a time.
func parallel(n, at int, do func(i int) error) error {
	next := make(chan int)
	failed := make([]error, at)
	var all sync.WaitGroup
	for w := range at {
		all.Go(func() {
			for i := range next {
				if failed[w] == nil {
					failed[w] = do(i)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	return errors.Join(failed...)
}

// readRanges reads files by ranges of 16 MiB over 8 connections.
func (r *raw) readRanges(ctx context.Context, files []file, p *pattern, m *meter) error {
	const piece = 16 << 20
	type part struct {
		f         file
		off, size int64
	}
	var parts []part
	for _, f := range files {
		for off := int64(0); off < f.size; off += piece {
			parts = append(parts, part{f, off, min(piece, f.size-off)})
		}
	}
	return parallel(len(parts), 8, func(i int) error {
		err := r.get(ctx, parts[i].f, parts[i].off, parts[i].size, p)
		m.add(float64(parts[i].size))
		return err
	})
}

// readFiles reads whole files over 64 connections.
func (r *raw) readFiles(ctx context.Context, files []file, p *pattern, m *meter) error {
	return parallel(len(files), 64, func(i int) error {
		err := r.get(ctx, files[i], 0, files[i].size, p)
		m.add(1)
		return err
	})
}

// pages reads single pages of a file over one connection and notes the times.
func (r *raw) pages(ctx context.Context, f file, offs []int64, p *pattern, m *meter) error {
	if err := r.get(ctx, f, 0, 1, p); err != nil { // connects
		return err
	}
	for _, off := range offs {
		begin := time.Now()
		if err := r.get(ctx, f, off, pageSize, p); err != nil {
			return err
		}
		m.lat = append(m.lat, time.Since(begin))
	}
	return nil
}

// propfind lists a directory.
func (r *raw) propfind(ctx context.Context, dir string) (entries int, err error) {
	const body = `<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><getetag/></prop></propfind>`
	req, err := http.NewRequestWithContext(ctx, "PROPFIND", r.base+dir+"/", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Depth", "1")
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusMultiStatus {
		err = fmt.Errorf("PROPFIND %s: %s", dir, resp.Status)
	}
	return strings.Count(string(text), "<D:response") - 1, err
}

// listTree lists a directory and then, over 32 connections, those in it.
func (r *raw) listTree(ctx context.Context, dir string, subs []string, want int, m *meter) error {
	if _, err := r.propfind(ctx, dir); err != nil {
		return err
	}
	err := parallel(len(subs), 32, func(i int) error {
		n, err := r.propfind(ctx, subs[i])
		m.add(float64(n))
		return err
	})
	if err == nil && int(m.work) != want {
		err = fmt.Errorf("PROPFIND shows %.0f files of %d", m.work, want)
	}
	return err
}

// stream measures the path alone: bytes over 8 connections from a server that does
// nothing but send.
func (w *world) stream(ctx context.Context, total int64, m *meter) (err error) {
	const conns = 8
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var servers sync.WaitGroup
	servers.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			servers.Go(func() {
				_, _ = io.CopyN(c, zeros{}, total/conns) // a short one is seen below
				_ = c.Close()
			})
		}
	})
	defer func() {
		err = errors.Join(err, ln.Close())
		servers.Wait()
	}()
	addr, err := w.path.Listen(ln.Addr().String(), "")
	if err != nil {
		return err
	}
	return parallel(conns, conns, func(int) error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, c, make([]byte, 256<<10))
		m.add(float64(n))
		if err == nil && n != total/conns {
			err = io.ErrUnexpectedEOF
		}
		return errors.Join(err, c.Close())
	})
}

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
