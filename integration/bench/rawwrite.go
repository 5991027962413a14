package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
)

// send makes a request whose answer has no content that matters.
func (r *raw) send(ctx context.Context, method, name string, body io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, method, r.base+name, body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body) // the end, so that the connection is kept
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s", method, name, resp.Status)
	}
	return err
}

// put uploads a file below a directory.
func (r *raw) put(ctx context.Context, dir string, f file, p *pattern) error {
	return r.send(ctx, http.MethodPut, path.Join(dir, f.path), bufio.NewReaderSize(&source{p: p, seed: f.seed, size: f.size}, 64<<10), f.size)
}

// putAll uploads files over some connections.
func (r *raw) putAll(ctx context.Context, dir string, files []file, at int, p *pattern, m *meter) error {
	return parallel(len(files), at, func(i int) error {
		err := r.put(ctx, dir, files[i], p)
		m.add(1)
		return err
	})
}

// makeDirs makes collections, those of one depth at the same time.
func (r *raw) makeDirs(ctx context.Context, dir string, names []string, at int) error {
	byDepth := map[int][]string{}
	deepest := 0
	for _, name := range names {
		depth := strings.Count(name, "/")
		byDepth[depth] = append(byDepth[depth], name)
		deepest = max(deepest, depth)
	}
	for depth := range deepest + 1 {
		list := byDepth[depth]
		if err := parallel(len(list), at, func(i int) error {
			return r.send(ctx, "MKCOL", path.Join(dir, list[i])+"/", nil, 0)
		}); err != nil {
			return err
		}
	}
	return nil
}

// split splits a file into files of whole pages, for as many connections.
func split(f file, n int) []file {
	var parts []file
	step := f.size / int64(n) / pageSize * pageSize
	for i := range n {
		size := step
		if i == n-1 {
			size = f.size - step*int64(n-1)
		}
		parts = append(parts, file{path: fmt.Sprintf("%s.part%d", f.path, i), seed: f.seed + uint64(i), size: size})
	}
	return parts
}
