package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// redoChecks are about puts that are cut off and made again.
var redoChecks = []check{
	{"PutCut", checkPutCut},
	{"PutRedo", checkPutRedo},
}

// cutPut cancels a Put of data when half of it is read.
func (e *env) cutPut(path string, data []byte, opts remote.PutOptions) {
	e.Helper()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	_, err := e.b.Put(ctx, path, cutSource{Bytes(data), cancel}, opts)
	if !errors.Is(err, context.Canceled) {
		e.Errorf("a put that was cancelled half way returned %v", err)
	}
}

// cutSource calls cancel when half of it is read, and ends there.
type cutSource struct {
	remote.Source
	cancel func()
}

// Open implements remote.Source.
func (s cutSource) Open() (io.ReadCloser, error) {
	r, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	cut := &cutReader{r, s.Size() / 2, context.Canceled}
	return struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		n, err := cut.Read(p)
		if errors.Is(err, context.Canceled) {
			s.cancel()
		}
		return n, err
	}), r}, nil
}

type readerFunc func(p []byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// putAgain puts as b, as often as the server is still busy with what was cut off.
func (e *env) putAgain(what string, b remote.Backend, path string, data []byte, opts remote.PutOptions) remote.Entry {
	e.Helper()
	var got remote.Entry
	opts.Redo = true
	e.while(what, func() (err error) {
		got, err = b.Put(e.ctx, path, Bytes(data), opts)
		return err
	}, remote.Retryable)
	e.wantContent(path, data)
	return got
}

// checkPutCut cuts puts off half way and makes them again, by both clients and with parts
// of other puts on the server.
func checkPutCut(e *env) {
	data, other := Pattern(e.LargeFile, 1), Pattern(e.LargeFile, 2)
	for i, b := range []remote.Backend{e.b, e.Other} {
		for _, old := range [][]byte{nil, []byte("the old content")} {
			path := fmt.Sprintf("/f%d-%d", i, len(old))
			opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
			if old != nil {
				opts = versionCond(e.versioned(e.put(path, old)))
			}
			opts.Resume = fmt.Sprintf("one-%d-%d", i, len(old))
			if e.cutPut(path, data, opts); e.caps.AtomicPut {
				e.eventually(path+" is as before", func() error { return isAsBefore(e.ctx, e.b, path, old) })
			}
			e.putAgain("a put that was cut off, made again", b, path, data, opts)
		}
	}
	opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Resume: "first"}
	e.cutPut("/mixed", data, opts)
	opts.Resume = "second"
	made := e.versioned(e.putAgain("another content after one that was cut off", e.b, "/mixed", other, opts))
	opts = versionCond(made)
	opts.Resume = "first"
	e.putAgain("the content that was cut off, after another", e.b, "/mixed", data, opts)
	e.wantNames("/", "f0-0", "f0-15", "f1-0", "f1-15", "mixed")
}

// checkPutRedo wants Redo to make no difference for files that are whole.
func checkPutRedo(e *env) {
	exclusive := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Redo: true}
	first := e.versioned(e.putWith("/f", []byte("first"), exclusive))
	if e.caps.Create != remote.GuardNone {
		_, err := e.b.Put(e.ctx, "/f", Bytes([]byte("late")), exclusive)
		e.wantKind(err, "a repeated exclusive create over a whole file", remote.Exist)
	}
	if first.Version == "" {
		return
	}
	opts := versionCond(first)
	opts.Redo = true
	second := e.versioned(e.putWith("/f", []byte("second one"), opts))
	if e.caps.Overwrite != remote.GuardNone && e.distinct(first, second) {
		_, err := e.b.Put(e.ctx, "/f", Bytes([]byte("late")), opts)
		e.wantKind(err, "a repeated put over another version", remote.Conflict)
	}
	e.wantContent("/f", []byte("second one"))
}
