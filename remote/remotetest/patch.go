package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// patchChecks are about remote.Patcher; a backend without it passes.
var patchChecks = []check{
	{"Patch", patchCheck(checkPatch)},
	{"PatchErrors", patchCheck(checkPatchErrors)},
	{"PatchReaders", patchCheck(checkPatchReaders)},
	{"PatchCut", patchCheck(checkPatchCut)},
}

// patchEnv is a target with the ability.
type patchEnv struct {
	*env
	p remote.Patcher
}

// patchCheck makes a check of one that needs the ability.
func patchCheck(run func(e *patchEnv)) func(e *env) {
	return func(e *env) {
		p, ok := remote.As[remote.Patcher](e.b)
		if !ok {
			e.Log("the backend has not this ability")
			return
		}
		if e.versioned(e.put("/f", []byte("x"))).Version == "" {
			e.Error("the backend has patches, and no versions to make them of")
			return
		}
		e.remove("/f", remote.File)
		run(&patchEnv{e, p})
	}
}

// change is a Patch and what it makes of a content.
type change struct {
	remote.Patch
	after []byte
}

// changeOf replaces parts of old, by offset and length one after the other, by the bytes of
// seed.
func changeOf(old []byte, size int, seed byte, offsetsLengths ...int) change {
	c := change{after: make([]byte, size)}
	copy(c.after, old)
	for r := range slices.Chunk(offsetsLengths, 2) {
		copy(c.after[r[0]:r[0]+r[1]], Pattern(r[1], seed))
		c.Ranges = append(c.Ranges, remote.ByteRange{Offset: int64(r[0]), Length: int64(r[1])})
	}
	c.Size = int64(size)
	c.Bytes = onlyRanges{c.Ranges, bytes.NewReader(c.after)}
	return c
}

// onlyRanges refuses to give what is not in the ranges.
type onlyRanges struct {
	ranges []remote.ByteRange
	io.ReaderAt
}

var errOutside = errors.New("remotetest: bytes that are in no range of the patch were asked for")

// ReadAt implements io.ReaderAt.
func (o onlyRanges) ReadAt(p []byte, off int64) (int, error) {
	for _, r := range o.ranges {
		if off >= r.Offset && off+int64(len(p)) <= r.Offset+r.Length {
			return o.ReaderAt.ReadAt(p, off)
		}
	}
	return 0, errOutside
}

// patch makes a change that must succeed.
func (e *patchEnv) patch(what string, base remote.Entry, c change, opts remote.PutOptions) remote.Entry {
	e.Helper()
	opts.Cond = versionCond(base).Cond
	got, err := e.p.Patch(e.ctx, base.Path, c.Patch, opts)
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
	if got.Path != base.Path || got.Type != remote.File || got.Size != c.Size {
		e.Errorf("%s to %d bytes returned %+v", what, c.Size, got)
	}
	e.sameEntry(what+" and stat", got, e.stat(base.Path))
	e.wantContent(base.Path, c.after)
	return e.versioned(got)
}

func checkPatch(e *patchEnv) {
	const n = 300_000
	content := Pattern(n, 1)
	base := e.versioned(e.put("/f", content))
	for i, c := range []struct {
		what          string
		size          int
		offsetLengths []int
	}{
		{"one range at the beginning", n, []int{0, 10}},
		{"ranges at the beginning, in the middle and at the end", n, []int{0, 1, 1000, 70_000, n - 3, 3}},
		{"a range over the end", n + 1000, []int{n - 10, 1010}},
		{"zeros and a range beyond the end", n + 100_000, []int{n + 50_000, 10}},
		{"zeros at the end", n + 200_000, nil},
		{"a shorter file", n, nil},
		{"a shorter file with a range", n - 1000, []int{10, 10}},
		{"every byte", n - 1000, []int{0, n - 1000}},
		{"many ranges", n, []int{1, 1, 3, 1, 5, 1, 100_000, 1, 200_000, 1, n - 1, 1}},
		{"nothing", n, nil},
		{"an empty file", 0, nil},
		{"bytes in an empty file", 10, []int{0, 10}},
	} {
		change := changeOf(content, c.size, byte(10+i), c.offsetLengths...)
		next := e.patch(c.what, base, change, remote.PutOptions{})
		if !bytes.Equal(content, change.after) {
			e.distinct(base, next)
		}
		base, content = next, change.after
	}
	when, mode := time.Unix(1_100_000_000, 0), uint32(0o640)
	timed := changeOf(content, 10, 77, 3, 3)
	base = e.patch("a patch with attributes", base, timed, remote.PutOptions{Attrs: remote.Attrs{MTime: &when, Mode: &mode}})
	e.wantAttrs("patch and its entry", base, when, mode)
	e.wantAttrs("patch and stat", e.stat("/f"), when, mode)
	e.patch("the same again", base, timed, remote.PutOptions{})
	e.wantNames("/", "f")
}

func checkPatchErrors(e *patchEnv) {
	e.mkdir("/d")
	first := e.versioned(e.put("/f", []byte("first")))
	second := e.versioned(e.put("/f", []byte("second one")))
	patch := func(path string, base remote.Entry, redo bool) error {
		opts := versionCond(base)
		opts.Redo = redo
		_, err := e.p.Patch(e.ctx, path, changeOf([]byte("second one"), 10, 1, 2, 3).Patch, opts)
		return err
	}
	e.wantKind(patch("/f", remote.Entry{}, false), "patch of no version", remote.Invalid)
	e.wantKind(patch("/d", first, false), "patch of a directory", remote.IsDir, remote.Conflict)
	e.wantKind(patch("/none/f", first, false), "patch without a parent", remote.NotExist, remote.Conflict)
	e.wantKind(patch("/none", first, false), "patch of nothing", remote.Conflict)
	if e.caps.Overwrite != remote.GuardNone && e.distinct(first, second) {
		for _, redo := range []bool{false, true} {
			e.wantKind(patch("/f", first, redo), fmt.Sprintf("patch of another version (redo %v)", redo), remote.Conflict)
		}
	}
	e.wantContent("/f", []byte("second one"))
	e.wantNames("/", "d", "f")
	e.wantNames("/d")
}

// checkPatchReaders reads a file while it is patched in two places: each read must show
// both as they were before, or both as they were after.
func checkPatchReaders(e *patchEnv) {
	const size, rounds = 200_000, 8
	content := bytes.Repeat([]byte{'a'}, size)
	base := e.versioned(e.put("/f", content))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					e.wantBothOrNone(size)
				}
			}
		})
	}
	for i := range rounds {
		c := changeOf(content, size, 1, 0, 70_000, size-70_000, 70_000)
		mark := bytes.Repeat([]byte{byte('b' + i)}, 70_000)
		copy(c.after, mark)
		copy(c.after[size-70_000:], mark)
		got, err := e.p.Patch(e.ctx, "/f", c.Patch, versionCond(base))
		if err != nil {
			e.Errorf("patch %d: %v", i, err)
			break
		}
		base, content = e.versioned(got), c.after
	}
	close(done)
	readers.Wait()
	e.wantContent("/f", content)
}

// wantBothOrNone reads /f as somebody else and compares its first bytes and its last ones.
func (e *env) wantBothOrNone(size int) {
	p := make([]byte, size)
	n, err := e.Other.ReadAt(remote.WithoutRetry(e.ctx), remote.Ref{Path: "/f", Size: -1}, p, 0)
	switch {
	case err == nil && (!bytes.Equal(p[:70_000], bytes.Repeat(p[:1], 70_000)) || !bytes.Equal(p[:70_000], p[size-70_000:])):
		e.Errorf("a reader saw a mixture that begins with %q and ends with %q", p[0], p[size-1])
	case err != nil && !isBusy(err):
		e.Errorf("read during patches: %d bytes, %v", n, err)
	}
}

// isBusy tells whether err is one that a reader gets from a torn or changing file.
func isBusy(err error) bool {
	return errors.Is(err, remote.Locked) || errors.Is(err, remote.Corrupt) || errors.Is(err, remote.Changed) || errors.Is(err, remote.Unavailable)
}

// checkPatchCut cuts patches off between two ranges. What is left may be read as the old
// content, or not at all, until a repeat makes it whole.
func checkPatchCut(e *patchEnv) {
	const size = 300_000
	for i, cut := range []string{"cancelled", "broken", "cancelled, then put"} {
		path := fmt.Sprintf("/f%d", i)
		old := Pattern(size, 1)
		base := e.versioned(e.put(path, old))
		c := changeOf(old, size, 2, 0, 100_000, 200_000, 100_000)
		ctx, cancel := context.WithCancel(e.ctx)
		broken := &cutBytes{ReaderAt: c.Bytes, good: 150_000, err: ErrSource}
		if cut != "broken" {
			broken.err, broken.cancel = context.Canceled, cancel
		}
		half := c.Patch
		half.Bytes = broken
		if _, err := e.p.Patch(ctx, path, half, versionCond(base)); !errors.Is(err, broken.err) {
			e.Errorf("a patch that was %s returned %v, want %v", cut, err, broken.err)
		}
		cancel()
		e.wantOldOrBusy(path, old)
		again := versionCond(base)
		again.Redo = true
		e.while("the repeat of a patch that was "+cut, func() (err error) {
			if cut == "cancelled, then put" {
				_, err = e.b.Put(e.ctx, path, Bytes(c.after), again)
			} else {
				_, err = e.p.Patch(e.ctx, path, c.Patch, again)
			}
			return err
		}, remote.Retryable)
		e.wantContent(path, c.after)
	}
	e.wantNames("/", "f0", "f1", "f2")
}

// wantOldOrBusy reads what a cut patch has left.
func (e *env) wantOldOrBusy(path string, old []byte) {
	e.Helper()
	for who, b := range map[string]remote.Backend{"this client": e.b, "another": e.Other} {
		p := make([]byte, len(old))
		_, err := b.ReadAt(remote.WithoutRetry(e.ctx), remote.Ref{Path: path, Size: -1}, p, 0)
		switch {
		case err == nil && !bytes.Equal(p, old):
			e.Errorf("%s reads a torn file as content: %s", who, difference(p, old))
		case err != nil && !isBusy(err):
			e.Errorf("%s reads a torn file: %v", who, err)
		}
	}
}

// cutBytes fail from offset good on.
type cutBytes struct {
	io.ReaderAt
	good   int64
	err    error
	cancel func() // called when they fail, if set
}

// ReadAt implements io.ReaderAt.
func (b *cutBytes) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.good {
		return b.ReaderAt.ReadAt(p, off)
	}
	if b.cancel != nil {
		b.cancel()
	}
	return 0, b.err
}
