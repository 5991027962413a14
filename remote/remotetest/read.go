package remotetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/meshmount/meshmount/remote"
)

var readChecks = []check{
	{"Contents", checkContents},
	{"Ranges", checkRanges},
	{"ReadErrors", checkReadErrors},
	{"PinnedVersion", checkPinned},
}

// checkContents writes and reads files of all kinds of sizes.
func checkContents(e *env) {
	sizes := []int{0, 1, 2, 511, 512, 4095, 4096, 4097, 1<<16 - 1, 1 << 16, 1 << 17, 1<<20 - 1, 1 << 20, 1<<20 + 1, e.LargeFile}
	for i, size := range sizes {
		path := fmt.Sprintf("/f%d", size)
		data := Pattern(size, byte(i))
		e.put(path, data)
		e.wantContent(path, data)
	}
	listed := e.list("/")
	for _, size := range sizes {
		if got := listed[fmt.Sprintf("f%d", size)].Size; got != int64(size) {
			e.Errorf("listed with %d bytes, want %d", got, size)
		}
	}
	special := []byte("--boundary\r\n\r\n\x00\xff\r\n--boundary--\r\n<?xml?>%00\x1f\x8b\x08")
	e.put("/special", special)
	e.wantContent("/special", special)
}

// checkRanges reads at every kind of edge. Reads that end at the end of the file
// return no error, those that would go past it io.EOF.
func checkRanges(e *env) {
	const size = 10_000
	data := Pattern(size, 1)
	made := e.versioned(e.put("/f", data))
	e.put("/empty", nil)
	offs := []int64{0, 1, 4095, 4096, size - 1, size, size + 1, size + 100_000}
	lens := []int{0, 1, 2, 4096, size - 1, size, size + 1, 3 * size}
	for _, ref := range []remote.Ref{
		{Path: "/f", Size: -1},
		{Path: "/f", Version: made.Version, Size: size},
	} {
		for _, off := range offs {
			for _, n := range lens {
				e.wantRange(ref, data, off, n)
			}
		}
	}
	for _, n := range []int{0, 1, 100} {
		e.wantRange(remote.Ref{Path: "/empty", Size: -1}, nil, 0, n)
		e.wantRange(remote.Ref{Path: "/empty", Size: 0}, nil, 5, n)
	}
	_, err := e.b.ReadAt(e.ctx, remote.Ref{Path: "/f", Size: -1}, make([]byte, 1), -1)
	e.wantKind(err, "read at a negative offset", remote.Invalid)
}

func (e *env) wantRange(ref remote.Ref, data []byte, off int64, n int) {
	e.Helper()
	p := bytes.Repeat([]byte{0xAA}, n+1)
	got, err := e.b.ReadAt(e.ctx, ref, p[:n], off)
	want := data[min(off, int64(len(data))):min(off+int64(n), int64(len(data)))]
	wantErr := error(nil)
	if len(want) < n {
		wantErr = io.EOF
	}
	what := fmt.Sprintf("read of %d at %d of %d", n, off, len(data))
	switch {
	case n == 0 && err == io.EOF && off >= int64(len(data)): // either answer is right
	case err != wantErr:
		e.Errorf("%s: error %v, want %v", what, err, wantErr)
	}
	if got != len(want) || !bytes.Equal(p[:got], want) {
		e.Errorf("%s: %s", what, difference(p[:got], want))
	}
	if p[n] != 0xAA {
		e.Errorf("%s wrote behind the buffer", what)
	}
}

func checkReadErrors(e *env) {
	e.mkdir("/d")
	e.put("/f", []byte("f"))
	for path, kinds := range map[string][]remote.Kind{
		"/none":      {remote.NotExist},
		"/none/deep": {remote.NotExist},
		"/f/below":   {remote.NotExist, remote.NotDir},
		"/d":         {remote.IsDir},
		"/":          {remote.IsDir},
	} {
		ref := remote.Ref{Path: path, Size: -1}
		_, err := e.b.ReadAt(e.ctx, ref, make([]byte, 10), 0)
		e.wantKind(err, "read of "+path, kinds...)
		if o, ok := remote.As[remote.Opener](e.b); ok {
			_, err := readStream(e.ctx, o, ref)
			e.wantKind(err, "stream of "+path, kinds...)
		}
	}
}

// checkPinned reads an old version after each kind of change.
func checkPinned(e *env) {
	if e.put("/probe", []byte("x")).Version == "" && e.stat("/probe").Version == "" {
		e.Log("the server offers no versions")
		return
	}
	old := []byte("the old content")
	for what, change := range map[string]func(path string){
		"shorter":   func(path string) { e.other(path, []byte("short")) },
		"longer":    func(path string) { e.other(path, append(old, " and more"...)) },
		"same size": func(path string) { e.other(path, []byte("the new content")) },
		"replaced": func(path string) {
			e.put(path+".tmp", []byte("moved over it"))
			e.rename(path+".tmp", path)
		},
	} {
		path := "/" + what
		before := e.versioned(e.put(path, old))
		change(path)
		e.wantPinned(what, old, before, e.stat(path), remote.Changed)
	}
	before := e.versioned(e.put("/gone", old))
	e.remove("/gone", remote.File)
	e.wantPinned("gone", old, before, remote.Entry{Version: "none"}, remote.NotExist, remote.Changed)
}

// versioned returns the entry with its version, which a Put may not know.
func (e *env) versioned(made remote.Entry) remote.Entry {
	e.Helper()
	if made.Version != "" {
		return made
	}
	return e.stat(made.Path)
}

// other stores a file as somebody else.
func (e *env) other(path string, data []byte) remote.Entry {
	e.Helper()
	got, err := e.Other.Put(e.ctx, path, Bytes(data), remote.PutOptions{})
	if err != nil {
		e.Fatalf("put %q by somebody else: %v", path, err)
	}
	return got
}

func (e *env) wantPinned(what string, old []byte, before, after remote.Entry, kinds ...remote.Kind) {
	e.Helper()
	if !e.distinct(before, after) {
		e.Logf("%s: the server does not tell the versions apart", what)
		return
	}
	for _, size := range []int64{before.Size, -1} {
		ref := remote.Ref{Path: before.Path, Version: before.Version, Size: size}
		for _, off := range []int64{0, 4, before.Size - 1} {
			p := make([]byte, 4)
			n, err := e.b.ReadAt(e.ctx, ref, p, off)
			if e.KeepsOld && (err == nil || err == io.EOF) {
				e.wantOld(what, p[:n], old[off:min(int(off)+len(p), len(old))])
				continue
			}
			e.wantKind(err, fmt.Sprintf("%s: old version at %d", what, off), kinds...)
		}
		if o, ok := remote.As[remote.Opener](e.b); ok {
			p, err := readStream(e.ctx, o, ref)
			if e.KeepsOld && err == nil {
				e.wantOld(what, p, old)
				continue
			}
			e.wantKind(err, what+": stream of the old version", kinds...)
		}
	}
	if after.Path == "" {
		return
	}
	ref := remote.Ref{Path: after.Path, Version: after.Version, Size: after.Size}
	p := make([]byte, after.Size)
	if _, err := e.b.ReadAt(e.ctx, ref, p, 0); err != nil && !errors.Is(err, io.EOF) {
		e.Errorf("%s: read of the new version: %v", what, err)
	}
}

// wantOld wants bytes of a version that was kept to be those that it had.
func (e *env) wantOld(what string, got, want []byte) {
	e.Helper()
	if !bytes.Equal(got, want) {
		e.Errorf("%s: the old version has other bytes: %s", what, difference(got, want))
	}
}
