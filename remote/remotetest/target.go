package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
)

// Target is a backend to check, with what the suite must know about it.
type Target struct {
	// Backend shows an empty root. The suite closes it.
	Backend remote.Backend
	// Other is a second client of the same tree, nil if there is none. The suite
	// makes with it the changes of "somebody else", and closes it.
	Other remote.Backend
	// Stall makes the server stop to answer, until resume is called. nil if that
	// cannot be done; then only calls with an ended context are checked for
	// cancellation.
	Stall func() (resume func())
	// MayRefuse tells the names that the backend may refuse with Invalid or
	// NameTooLong. nil allows that for control characters and for bytes that are
	// not UTF-8. No backend may store a name under other bytes.
	MayRefuse func(name string) bool
	// LargeDir is the number of entries in the test of a large directory, 0 for
	// 2,000.
	LargeDir int
	// LargeFile is the size of the largest file in bytes, 0 for 5 MiB and 3.
	LargeFile int
	// LateVersions: versions of directories tell only of changes that have reached a
	// server, which may be after the call.
	LateVersions bool
	// KeepsOld: the bytes of a version may still be there after it was replaced or removed,
	// and are given then.
	KeepsOld bool
	// Soon is how long a cancelled call may take to return, 0 for a minute. What a server has
	// left of it may be there four times as long.
	Soon time.Duration
}

// Factory makes a fresh target. What it starts, it ends by t.Cleanup.
type Factory func(t *testing.T) Target

// Run checks all of the contract, each part on a target of its own.
func Run(t *testing.T, f Factory) {
	for _, group := range [][]check{
		treeChecks, readChecks, putChecks, condChecks, removeChecks, renameChecks,
		nameChecks, listChecks, abilityChecks, xattrChecks, treeRemovalChecks, trackChecks, lifeChecks,
		redoChecks, growingChecks, patchChecks, batchChecks, bundleChecks, pruneChecks,
	} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, f)) })
		}
	}
}

// check is one part of the suite.
type check struct {
	name string
	run  func(e *env)
}

// env is a target in the hands of one check.
type env struct {
	*testing.T
	Target
	b    remote.Backend // Target.Backend
	ctx  context.Context
	caps remote.Caps
}

func newEnv(t *testing.T, f Factory) *env {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() { checkGoroutines(t, before) }) // runs after all other clean-up
	target := f(t)
	e := &env{T: t, Target: target, b: target.Backend, ctx: t.Context()}
	if e.MayRefuse == nil {
		e.MayRefuse = unusualBytes
	}
	e.LargeDir = orDefault(e.LargeDir, 2000)
	e.LargeFile = orDefault(e.LargeFile, 5<<20+3)
	e.Soon = orDefault(e.Soon, time.Minute)
	e.caps = e.b.Caps()
	if e.Other == nil {
		e.Other = e.b
	}
	t.Cleanup(func() { e.close(e.Target.Other); e.close(e.b) })
	return e
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// close closes a backend that may have been closed by the check.
func (e *env) close(b remote.Backend) {
	e.Helper()
	if err := b.Close(); err != nil && !errors.Is(err, remote.BadHandle) {
		e.Errorf("close: %v", err)
	}
}

func unusualBytes(name string) bool {
	return !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)
}

// checkGoroutines waits until there are no more goroutines than before.
func checkGoroutines(t *testing.T, before int) {
	t.Helper()
	for wait := time.Millisecond; runtime.NumGoroutine() > before; wait *= 2 {
		if wait > 3*time.Second {
			buf := make([]byte, 1<<20)
			t.Errorf("goroutines leaked: %d, were %d\n%s", runtime.NumGoroutine(), before,
				buf[:runtime.Stack(buf, true)])
			return
		}
		time.Sleep(wait)
	}
}

// put stores a file and checks the entry that comes back.
func (e *env) put(path string, data []byte) remote.Entry {
	e.Helper()
	return e.putWith(path, data, remote.PutOptions{})
}

func (e *env) putWith(path string, data []byte, opts remote.PutOptions) remote.Entry {
	e.Helper()
	got, err := e.b.Put(e.ctx, path, Bytes(data), opts)
	if err != nil {
		e.Fatalf("put %q: %v", path, err)
	}
	if got.Path != path || got.Type != remote.File || got.Size != int64(len(data)) {
		e.Errorf("put %q of %d bytes returned %+v", path, len(data), got)
	}
	return got
}

func (e *env) mkdir(path string) remote.Entry {
	e.Helper()
	got, err := e.b.Mkdir(e.ctx, path)
	if err != nil {
		e.Fatalf("mkdir %q: %v", path, err)
	}
	if got.Path != path || got.Type != remote.Dir || got.Size != 0 {
		e.Errorf("mkdir %q returned %+v", path, got)
	}
	return got
}

func (e *env) stat(path string) remote.Entry {
	e.Helper()
	got, err := e.b.Stat(e.ctx, path)
	if err != nil {
		e.Fatalf("stat %q: %v", path, err)
	}
	if got.Path != path {
		e.Errorf("stat %q returned the path %q", path, got.Path)
	}
	return got
}

func (e *env) remove(path string, kind remote.Type) {
	e.Helper()
	if err := e.b.Remove(e.ctx, path, remote.RemoveOptions{Type: kind}); err != nil {
		e.Fatalf("remove %q: %v", path, err)
	}
}

func (e *env) rename(from, to string) {
	e.Helper()
	if err := e.b.Rename(e.ctx, from, to, remote.RenameOptions{}); err != nil {
		e.Fatalf("rename %q to %q: %v", from, to, err)
	}
}

// read returns the whole content by ReadAt, with one byte more asked for than
// there is.
func (e *env) read(path string) []byte {
	e.Helper()
	size := e.stat(path).Size
	p := make([]byte, size+1)
	n, err := e.b.ReadAt(e.ctx, remote.Ref{Path: path, Size: -1}, p, 0)
	if err != io.EOF || int64(n) != size {
		e.Fatalf("read %q: %d bytes of %d, error %v, want io.EOF", path, n, size, err)
	}
	return p[:n]
}

// wantContent checks the bytes of a file, in every way to read it.
func (e *env) wantContent(path string, want []byte) {
	e.Helper()
	if got := e.stat(path); got.Type != remote.File || got.Size != int64(len(want)) {
		e.Errorf("stat %q: %+v, want a file of %d bytes", path, got, len(want))
		return
	}
	if got := e.read(path); !bytes.Equal(got, want) {
		e.Errorf("%q: content differs: %s", path, difference(got, want))
	}
	if o, ok := remote.As[remote.Opener](e.b); ok {
		got, err := readStream(e.ctx, o, remote.Ref{Path: path, Size: -1})
		if err != nil || !bytes.Equal(got, want) {
			e.Errorf("%q: stream differs: %s, %v", path, difference(got, want), err)
		}
	}
}

func readStream(ctx context.Context, o remote.Opener, ref remote.Ref) ([]byte, error) {
	r, err := o.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

func difference(got, want []byte) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Sprintf("%d bytes for %d, equal up to %d", len(got), len(want), at)
}

// wantKind checks that err is an *remote.Error of one of the kinds.
func (e *env) wantKind(err error, what string, kinds ...remote.Kind) {
	e.Helper()
	var re *remote.Error
	if !errors.As(err, &re) {
		e.Errorf("%s: error %v is no *remote.Error, want kind %v", what, err, kinds)
		return
	}
	if !slices.ContainsFunc(kinds, func(k remote.Kind) bool { return errors.Is(err, k) }) {
		e.Errorf("%s: error %q of kind %q, want %v", what, err, re.Kind, kinds)
	}
}

// symlinker returns what makes symbolic links, nil if none are kept.
func (e *env) symlinker() remote.Symlinker {
	if s, ok := remote.As[remote.Symlinker](e.b); ok && e.caps.StoresSymlinks {
		return s
	}
	return nil
}

// wantNothing checks that there is no entry at path.
func (e *env) wantNothing(path string) {
	e.Helper()
	_, err := e.b.Stat(e.ctx, path)
	e.wantKind(err, fmt.Sprintf("stat of %q", path), remote.NotExist)
}

// list returns the entries of a directory by name and fails on doubles.
func (e *env) list(dir string) map[string]remote.Entry {
	e.Helper()
	all := map[string]remote.Entry{}
	err := e.b.List(e.ctx, dir, func(got remote.Entry) error {
		parent, name := remote.Split(got.Path)
		if _, double := all[name]; double {
			e.Errorf("list %q: %q came twice", dir, got.Path)
		}
		if parent != dir || remote.CheckPath("list", got.Path) != nil {
			e.Errorf("list %q: entry of path %q", dir, got.Path)
		}
		all[name] = got
		return nil
	})
	if err != nil {
		e.Fatalf("list %q: %v", dir, err)
	}
	return all
}

// wantNames checks the names in a directory.
func (e *env) wantNames(dir string, want ...string) {
	e.Helper()
	var got []string
	for name := range e.list(dir) {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.Errorf("list %q: %q, want %q", dir, got, want)
	}
}

// sameEntry compares what two calls showed of an unchanged entry.
func (e *env) sameEntry(what string, a, b remote.Entry) {
	e.Helper()
	if a.Path != b.Path || a.Type != b.Type || a.Size != b.Size || a.Target != b.Target {
		e.Errorf("%s: %+v and %+v", what, a, b)
	}
	settled := !a.Provisional && !b.Provisional
	if settled && a.Type == remote.File && a.Version != b.Version {
		e.Errorf("%s: versions %q and %q", what, a.Version, b.Version)
	}
	if a.ID != b.ID && a.ID != "" && b.ID != "" {
		e.Errorf("%s: identities %q and %q", what, a.ID, b.ID)
	}
}

// distinct tells whether the server tells two contents of one path apart; it
// complains if the entries claim to be proof that they are equal.
func (e *env) distinct(a, b remote.Entry) bool {
	e.Helper()
	if a.Version == "" || b.Version == "" {
		return false
	}
	if a.Version == b.Version && !a.Provisional && !b.Provisional {
		e.Errorf("one version %q for two contents, and not provisional", a.Version)
	}
	return a.Version != b.Version
}
