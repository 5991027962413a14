package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// growingChecks are about remote.GrowingPutter; a backend without it passes.
var growingChecks = []check{
	{"Growing", growingCheck(checkGrowing)},
	{"GrowingErrors", growingCheck(checkGrowingErrors)},
	{"GrowingBreaks", growingCheck(checkGrowingBreaks)},
	{"GrowingCond", growingCheck(checkGrowingCond)},
	{"GrowingParallel", growingCheck(checkGrowingParallel)},
}

// growingEnv is a target with the ability.
type growingEnv struct {
	*env
	p remote.GrowingPutter
}

// growingCheck makes a check of one that needs the ability.
func growingCheck(run func(e *growingEnv)) func(e *env) {
	return func(e *env) {
		p, ok := remote.As[remote.GrowingPutter](e.b)
		if !ok {
			e.Log("the backend has not this ability")
			return
		}
		run(&growingEnv{e, p})
	}
}

// growingPut is a PutGrowing on its way.
type growingPut struct {
	Growth
	done  chan struct{} // closed when it has returned
	entry remote.Entry
	err   error
}

// overwrites tells whether growing content is taken where there is a file.
func (e *growingEnv) overwrites() bool {
	e.Helper()
	e.put("/probe", []byte("old"))
	_, err := e.p.PutGrowing(e.ctx, "/probe", Grown([]byte("new"), remote.Attrs{}), remote.PutOptions{})
	unsupported := errors.Is(err, remote.Unsupported)
	if unsupported {
		e.Log("growing content is taken for new files only")
		e.wantContent("/probe", []byte("old"))
	}
	e.remove("/probe", remote.File)
	return !unsupported
}

// begin starts a PutGrowing of content that is empty yet.
func (e *growingEnv) begin(ctx context.Context, path string, opts remote.PutOptions) *growingPut {
	g := &growingPut{done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.entry, g.err = e.p.PutGrowing(ctx, path, g, opts)
	}()
	return g
}

// drained waits until all n bytes of what there is have been asked for, or the put has
// ended.
func (e *growingEnv) drained(g *growingPut, n int) {
	e.Helper()
	e.eventually("the put asks for more than there is", func() error {
		select {
		case <-g.done:
			return nil
		default:
		}
		if got := g.Wanted(); got < int64(n) {
			return fmt.Errorf("it waits for byte %d of %d", got, n)
		}
		return nil
	})
}

// eventually waits until f returns nil.
func (e *env) eventually(what string, f func() error) {
	e.Helper()
	e.while(what, f, func(error) bool { return true })
}

// while waits until f returns nil, as long as its errors may pass, for a few times Soon.
func (e *env) while(what string, f func() error, passing func(error) bool) {
	e.Helper()
	var err error
	for wait, end := time.Millisecond, time.Now().Add(4*e.Soon); time.Now().Before(end); wait = min(2*wait, 200*time.Millisecond) {
		if err = f(); err == nil {
			return
		}
		if !passing(err) {
			break
		}
		time.Sleep(wait)
	}
	e.Fatalf("%s: %v", what, err)
}

// wantAsBefore checks, by both clients, that path holds old, or is not there if that is
// nil.
func (e *env) wantAsBefore(what, path string, old []byte) {
	e.Helper()
	for who, b := range map[string]remote.Backend{"this client": e.b, "another": e.Other} {
		if err := isAsBefore(e.ctx, b, path, old); err != nil {
			e.Errorf("%s, %s: %v", what, who, err)
		}
	}
}

func isAsBefore(ctx context.Context, b remote.Backend, path string, old []byte) error {
	got, err := b.Stat(ctx, path)
	switch {
	case old == nil && errors.Is(err, remote.NotExist):
		return nil
	case old == nil || err != nil:
		return fmt.Errorf("%s is %+v, %w", path, got, err)
	}
	p := make([]byte, len(old)+1)
	n, err := b.ReadAt(ctx, remote.Ref{Path: path, Size: -1}, p, 0)
	if err != io.EOF || string(p[:n]) != string(old) {
		return fmt.Errorf("%s differs from the old content: %s, %w", path, difference(p[:n], old), err)
	}
	return nil
}

func checkGrowing(e *growingEnv) {
	fresh := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	names := []string{}
	for i, size := range []int{0, 1, 70_001, e.LargeFile} {
		name := fmt.Sprintf("f%d", i)
		e.grow("/"+name, nil, Pattern(size, byte(i)), fresh)
		names = append(names, name)
		e.wantNames("/", names...)
	}
	if !e.overwrites() {
		return
	}
	e.put("/f1", []byte("the old content"))
	e.grow("/f1", []byte("the old content"), Pattern(100_000, 8), remote.PutOptions{})
	base := e.versioned(e.stat("/f1"))
	e.grow("/f1", Pattern(100_000, 8), Pattern(10, 9), versionCond(base))
	e.wantNames("/", names...)
}

// grow puts data in three pieces over old, and looks at what is there by the way.
func (e *growingEnv) grow(path string, old, data []byte, opts remote.PutOptions) {
	e.Helper()
	wrong, when, mode := time.Unix(77, 0), time.Unix(1_100_000_000, 0), uint32(0o640)
	opts.Attrs = remote.Attrs{MTime: &wrong} // is not to be used
	g := e.begin(e.ctx, path, opts)
	for i := range 3 {
		from, to := len(data)*i/3, len(data)*(i+1)/3
		if e.drained(g, from); e.caps.AtomicPut || opts.Cond.NotExist {
			e.wantAsBefore(fmt.Sprintf("%s after %d bytes", path, from), path, old)
		}
		g.Grow(data[from:to])
	}
	g.End(remote.Attrs{MTime: &when, Mode: &mode})
	<-g.done
	if g.err != nil {
		e.Fatalf("growing %s: %v", path, g.err)
	}
	if g.entry.Path != path || g.entry.Type != remote.File || g.entry.Size != int64(len(data)) {
		e.Errorf("growing %s to %d bytes returned %+v", path, len(data), g.entry)
	}
	e.wantContent(path, data)
	now := e.stat(path)
	e.sameEntry("growing and stat", g.entry, now)
	e.wantAttrs("growing and its entry", g.entry, when, mode)
	e.wantAttrs("growing and stat", now, when, mode)
}

func checkGrowingErrors(e *growingEnv) {
	e.mkdir("/d")
	first := e.versioned(e.put("/f", []byte("first")))
	second := e.versioned(e.put("/f", []byte("second one")))
	put := func(path string, opts remote.PutOptions) error {
		_, err := e.p.PutGrowing(e.ctx, path, Grown([]byte("new"), remote.Attrs{}), opts)
		return err
	}
	fresh := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	over := e.overwrites()
	if over {
		e.wantKind(put("/d", remote.PutOptions{}), "growing onto a directory", remote.IsDir)
	}
	e.wantKind(put("/none/f", fresh), "growing without a parent", remote.NotExist)
	e.wantKind(put("/f/below", fresh), "growing below a file", remote.NotDir, remote.NotExist)
	if e.caps.Create != remote.GuardNone {
		e.wantKind(put("/f", fresh), "growing exclusively over a file", remote.Exist)
		e.wantKind(put("/d", fresh), "growing exclusively over a directory", remote.Exist, remote.IsDir)
	}
	if over && e.caps.Overwrite != remote.GuardNone && e.distinct(first, second) {
		e.wantKind(put("/f", versionCond(first)), "growing over another version", remote.Conflict)
		e.wantKind(put("/none", versionCond(first)), "growing over a version that never was", remote.Conflict)
	}
	e.wantContent("/f", []byte("second one"))
	e.wantNames("/", "d", "f")
	e.wantNames("/d")
}

// checkGrowingBreaks has content that fails, and callers that give up, and wants no trace.
func checkGrowingBreaks(e *growingEnv) {
	errMine := errors.New("the content became another")
	paths := []string{"/new"}
	if e.overwrites() {
		paths = []string{"/old", "/new"}
	}
	for _, path := range paths {
		opts, old := remote.PutOptions{Cond: remote.Cond{NotExist: true}}, []byte(nil)
		if path == "/old" {
			opts, old = remote.PutOptions{}, []byte("old")
			e.put(path, old)
		}
		for _, n := range []int{0, 100, 300_000, e.LargeFile} {
			g := e.begin(e.ctx, path, opts)
			g.Grow(Pattern(n, 1))
			e.drained(g, n)
			g.Fail(errMine)
			if <-g.done; !errors.Is(g.err, errMine) {
				e.Errorf("%s: the error of Wait came back as %v", path, g.err)
			}
			e.wantNoTrace(fmt.Sprintf("content that failed after %d bytes", n), path, old)
		}
		_, err := e.p.PutGrowing(e.ctx, path, torn{Grown(Pattern(300_000, 1), remote.Attrs{}), 200_000}, opts)
		if !errors.Is(err, ErrSource) {
			e.Errorf("%s: the error of ReadAt came back as %v", path, err)
		}
		e.wantNoTrace("content that cannot be read", path, old)
		e.cancelGrowing(path, opts)
		e.wantNoTrace("a put that was cancelled", path, old)
	}
	e.put("/new", []byte("fine"))
	e.wantContent("/new", []byte("fine"))
}

// cancelGrowing cancels a put that waits for more.
func (e *growingEnv) cancelGrowing(path string, opts remote.PutOptions) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	g := e.begin(ctx, path, opts)
	g.Grow(Pattern(100_000, 1))
	e.drained(g, 100_000)
	cancel()
	start := time.Now()
	if <-g.done; !errors.Is(g.err, context.Canceled) || time.Since(start) > e.Soon {
		e.Errorf("%s: a waiting put was cancelled and returned %v after %v", path, g.err, time.Since(start))
	}
}

// wantNoTrace checks that, soon, there is nothing but old at path, if that is promised.
// Without the promise it makes the old state again.
func (e *growingEnv) wantNoTrace(what, path string, old []byte) {
	e.Helper()
	if !e.caps.AtomicPut && old != nil {
		e.while("an overwrite after "+what, func() error {
			_, err := e.b.Put(e.ctx, path, Bytes(old), remote.PutOptions{})
			return err
		}, remote.Retryable)
		return
	}
	names := map[string]bool{"/old": true}
	e.eventually(path+" after "+what, func() error {
		var errs []error
		for _, b := range []remote.Backend{e.b, e.Other} {
			errs = append(errs, isAsBefore(e.ctx, b, path, old), b.List(e.ctx, "/", func(got remote.Entry) error {
				if !names[got.Path] {
					return fmt.Errorf("there is %s", got.Path)
				}
				return nil
			}))
		}
		return errors.Join(errs...)
	})
}

// torn is content of which the end cannot be read.
type torn struct {
	*Growth
	good int64
}

// ReadAt implements io.ReaderAt.
func (t torn) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > t.good {
		return 0, ErrSource
	}
	return t.Growth.ReadAt(p, off)
}

// checkGrowingCond has somebody else change the file by the way. Where the server does
// not let him, ours must succeed.
func checkGrowingCond(e *growingEnv) {
	data, theirs := Pattern(100_000, 1), Pattern(50_000, 2)
	if e.caps.Create != remote.GuardNone {
		e.overtaken("/new", remote.PutOptions{Cond: remote.Cond{NotExist: true}}, remote.Exist, data, theirs)
	}
	if !e.overwrites() {
		return
	}
	base := e.versioned(e.put("/old", []byte("the old content")))
	if e.caps.Overwrite != remote.GuardNone && e.caps.AtomicPut && base.Version != "" {
		e.overtaken("/old", versionCond(base), remote.Conflict, data, theirs)
	}
}

func (e *growingEnv) overtaken(path string, opts remote.PutOptions, want remote.Kind, data, theirs []byte) {
	g := e.begin(e.ctx, path, opts)
	g.Grow(data[:70_000])
	e.drained(g, 70_000)
	_, otherErr := e.Other.Put(e.ctx, path, Bytes(theirs), remote.PutOptions{})
	g.Grow(data[70_000:])
	g.End(remote.Attrs{})
	<-g.done
	switch {
	case otherErr != nil:
		e.wantKind(otherErr, "a put of somebody else by the way", remote.Locked, remote.Exist)
		if g.err != nil {
			e.Errorf("%s: neither was stored: %v", path, g.err)
			return
		}
		e.wantContent(path, data)
	default:
		e.wantKind(g.err, "growing where somebody else was faster", want)
		e.wantContent(path, theirs)
	}
}

// checkGrowingParallel grows many files at once, and then one at once by many.
func checkGrowingParallel(e *growingEnv) {
	fresh := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	var all []*growingPut
	for i := range racers {
		all = append(all, e.begin(e.ctx, fmt.Sprintf("/f%d", i), fresh))
	}
	var programs sync.WaitGroup
	for i, g := range all {
		programs.Go(func() {
			for piece := range 10 {
				g.Grow(racerContent(i)[100*piece : 100*(piece+1)])
				time.Sleep(time.Millisecond)
			}
			g.Grow(racerContent(i)[1000:])
			g.End(remote.Attrs{})
		})
	}
	programs.Wait()
	for i, g := range all {
		if <-g.done; g.err != nil {
			e.Errorf("growing file %d: %v", i, g.err)
			continue
		}
		e.wantContent(fmt.Sprintf("/f%d", i), racerContent(i))
	}
	if e.caps.Create != remote.GuardAtomic {
		return
	}
	errs := race(func(i int) error {
		_, err := e.p.PutGrowing(e.ctx, "/one", Grown(racerContent(i), remote.Attrs{}), fresh)
		return err
	})
	if w := e.wantOneWinner(errs, remote.Exist, remote.Locked); w >= 0 {
		e.wantContent("/one", racerContent(w))
	}
}
