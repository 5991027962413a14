package remotetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// brokenEnv names the broken backend that TestBroken runs the suite on.
const brokenEnv = "MESHMOUNT_TEST_BROKEN"

// mutant is a backend that breaks the contract, and the check that must see it.
type mutant struct {
	check string
	make  func() remote.Backend
}

// around returns memory with an interceptor that breaks something.
func around(f remote.Interceptor) func() remote.Backend {
	return func() remote.Backend { return remote.Intercept(memory.New(memory.Options{}), f) }
}

// on is an interceptor for one operation.
func on(op remote.Op, f remote.Interceptor) func() remote.Backend {
	return around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == op {
			return f(ctx, c, next)
		}
		return next(ctx)
	})
}

// edit changes the arguments of one operation.
func edit(op remote.Op, f func(c *remote.Call)) func() remote.Backend {
	return on(op, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		f(c)
		return next(ctx)
	})
}

// spoil changes the results of one operation.
func spoil(op remote.Op, f func(c *remote.Call)) func() remote.Backend {
	return on(op, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		f(c)
		return err
	})
}

// forgiving takes an error of that kind for success.
func forgiving(op remote.Op, kind remote.Kind) func() remote.Backend {
	return on(op, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		if err := next(ctx); !errors.Is(err, kind) {
			return err
		}
		return nil
	})
}

// renaming changes the paths of all calls, and nothing back.
func renaming(f func(string) string) func() remote.Backend {
	return around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		c.Path, c.To, c.Ref.Path = f(c.Path), f(c.To), f(c.Ref.Path)
		return next(ctx)
	})
}

// boasting is memory that promises more than it keeps.
type boasting struct{ *memory.Backend }

// Caps implements remote.Backend.
func (b boasting) Caps() remote.Caps {
	c := b.Backend.Caps()
	c.AtomicPut, c.StoresMTime, c.StoresMode, c.PropagatesVersion = true, true, true, true
	c.Overwrite, c.Create, c.RemoveGuard = remote.GuardAtomic, remote.GuardAtomic, remote.GuardAtomic
	return c
}

func boast(opts memory.Options) func() remote.Backend {
	return func() remote.Backend { return boasting{memory.New(opts)} }
}

// immortal cannot be closed.
type immortal struct{ remote.Backend }

// Close implements remote.Backend.
func (immortal) Close() error { return nil }

// slurp reads of a source what there is and forgets its errors.
func slurp(ctx context.Context, c *remote.Call, next remote.Next) error {
	r, err := c.Source.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	var got bytes.Buffer
	_, _ = got.ReadFrom(r) // this is what is broken
	c.Source = remotetest.Bytes(got.Bytes())
	return next(ctx)
}

// keepOpen never closes the readers of a source.
type keepOpen struct{ remote.Source }

// Open implements remote.Source.
func (s keepOpen) Open() (io.ReadCloser, error) {
	r, err := s.Source.Open()
	return io.NopCloser(r), err
}

var mutants = map[string]mutant{
	"removes trees":               {"RemoveNonEmpty", forgiving(remote.OpRemove, remote.NotEmpty)},
	"removes what is not there":   {"Remove", forgiving(remote.OpRemove, remote.NotExist)},
	"makes what is there":         {"Mkdir", forgiving(remote.OpMkdir, remote.Exist)},
	"puts without a parent":       {"PutErrors", forgiving(remote.OpPut, remote.NotExist)},
	"replaces full directories":   {"RenameMatrix", forgiving(remote.OpRename, remote.NotEmpty)},
	"renames what is not there":   {"RenameMatrix", forgiving(remote.OpRename, remote.NotExist)},
	"moves a tree into itself":    {"RenameEnds", forgiving(remote.OpRename, remote.Invalid)},
	"reads nothing for missing":   {"ReadErrors", forgiving(remote.OpRead, remote.NotExist)},
	"lists nothing for missing":   {"ListErrors", forgiving(remote.OpList, remote.NotExist)},
	"replaces when told not to":   {"RenameMatrix", edit(remote.OpRename, func(c *remote.Call) { c.Rename.NoReplace = false })},
	"ignores exclusive creation":  {"CondNotExist", edit(remote.OpPut, func(c *remote.Call) { c.Put.Cond.NotExist = false })},
	"ignores versions of puts":    {"CondVersion", edit(remote.OpPut, func(c *remote.Call) { c.Put.Cond.Version = "" })},
	"ignores versions of removes": {"RemoveVersion", edit(remote.OpRemove, func(c *remote.Call) { c.Remove.Version = "" })},
	"reads another version":       {"PinnedVersion", edit(remote.OpRead, func(c *remote.Call) { c.Ref.Version = "" })},
	"streams another version":     {"PinnedVersion", edit(remote.OpOpen, func(c *remote.Call) { c.Ref.Version = "" })},
	"has one version for ever":    {"Overwrite", spoil(remote.OpPut, func(c *remote.Call) { c.Entry.Version = "v" })},
	"reads one byte less":         {"Contents", spoil(remote.OpRead, func(c *remote.Call) { c.N = max(c.N-1, 0) })},
	"never says EOF":              {"Ranges", spoil(remote.OpRead, func(c *remote.Call) { c.EOF = false })},
	"says EOF too early":          {"Ranges", spoil(remote.OpRead, func(c *remote.Call) { c.EOF = true })},
	"reads from elsewhere":        {"Ranges", edit(remote.OpRead, func(c *remote.Call) { c.Off = max(c.Off-1, 0) })},
	"ends streams early":          {"Stream", on(remote.OpStream, func(_ context.Context, c *remote.Call, _ remote.Next) error { c.EOF = true; return nil })},
	"lists short": {"ListLarge", on(remote.OpList, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		n, yield := 0, c.Yield
		c.Yield = func(e remote.Entry) error {
			if n++; n == 30 {
				return nil
			}
			return yield(e)
		}
		return next(ctx)
	})},
	"lists twice": {"List", on(remote.OpList, func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		return errors.Join(next(ctx), next(ctx))
	})},
	"swallows errors of yield": {"ListYield", spoil(remote.OpList, func(c *remote.Call) { c.Halt = nil })},
	"decodes names":            {"NamePairs", renaming(func(p string) string { return strings.ReplaceAll(p, "%41", "A") })},
	"folds case":               {"NamePairs", renaming(strings.ToLower)},
	"composes names":           {"NamePairs", renaming(func(p string) string { return strings.ReplaceAll(p, "e\u0301", "\u00e9") })},
	"trims names":              {"Names", renaming(func(p string) string { return strings.TrimRight(p, " .") })},
	"cleans paths":             {"BadPaths", renaming(func(p string) string { return strings.TrimSuffix(p, "/") })},
	"ignores contexts":         {"EndedContext", around(func(_ context.Context, _ *remote.Call, next remote.Next) error { return next(context.Background()) })},
	"wraps context errors": {"EndedContext", around(func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if err := next(ctx); err != nil && ctx.Err() != nil {
			return c.Fail(remote.Unavailable, errors.New("cancelled"))
		} else {
			return err
		}
	})},
	"returns plain errors": {"Stat", around(func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		if err := next(ctx); err != nil {
			return errors.New(err.Error())
		}
		return nil
	})},
	"stores short sources": {"BadSources", on(remote.OpPut, slurp)},
	"keeps sources open": {"SourceUse", on(remote.OpPut, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		c.Source = keepOpen{c.Source}
		return next(ctx)
	})},
	"hides the source's error": {"BadSources", on(remote.OpPut, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if next(ctx) != nil {
			return c.Fail(remote.Other, nil)
		}
		return nil
	})},
	"lies about atomic puts": {"AtomicPut", boast(memory.Options{InPlacePut: true})},
	"lies about conditions":  {"CondVersion", boast(memory.Options{Unguarded: true})},
	"lies about times":       {"PutAttrs", boast(memory.Options{NoMTime: true})},
	"lies about modes":       {"PutAttrs", boast(memory.Options{NoMode: true})},
	"lies about propagation": {"DirVersions", boast(memory.Options{})},
	"looks before it creates": {"CreateRace", on(remote.OpPut, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		time.Sleep(time.Millisecond)
		c.Put.Cond = remote.Cond{}
		return next(ctx)
	})},
	"cannot be closed": {"Close", func() remote.Backend { return immortal{memory.New(memory.Options{})} }},
	"leaks goroutines": {"Root", around(func(ctx context.Context, _ *remote.Call, next remote.Next) error {
		go time.Sleep(time.Minute)
		return next(ctx)
	})},
	"corrupts shared state": {"Concurrent", on(remote.OpRead, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		err := next(ctx)
		if c.N > 5000 {
			c.Buf[5000] ^= 1
		}
		return err
	})},
	"sorts bytes":        {"Model", spoil(remote.OpRead, func(c *remote.Call) { slices.Sort(c.Buf[:c.N]) })},
	"forgets renames":    {"Model", on(remote.OpRename, func(context.Context, *remote.Call, remote.Next) error { return nil })},
	"loses link targets": {"Symlink", edit(remote.OpSymlink, func(c *remote.Call) { c.Target = "x" })},
	"ignores setattr": {"SetAttr", on(remote.OpSetAttr, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		c.Attrs = remote.Attrs{}
		return next(ctx)
	})},
}

func allMutants() map[string]mutant {
	all := maps.Clone(mutants)
	maps.Copy(all, attributeMutants)
	maps.Copy(all, writeMutants)
	maps.Copy(all, bundleMutants)
	return all
}

// TestBroken runs the suite on the broken backend that TestSuiteFindsMutants asks
// for, in a process of its own, because it must fail.
func TestBroken(t *testing.T) {
	m, ok := allMutants()[os.Getenv(brokenEnv)]
	if !ok {
		return
	}
	make := func(*testing.T) remotetest.Target {
		return remotetest.Target{Backend: m.make(), LargeDir: 50, LargeFile: 200_000, Soon: time.Second}
	}
	if m.check == "Model" {
		t.Run("Model", func(t *testing.T) { remotetest.RunModel(t, make) })
		return
	}
	remotetest.Run(t, make)
}

// TestSuiteFindsMutants wants the suite to fail on each mutant, in the check that is
// there for it, and to say so.
func TestSuiteFindsMutants(t *testing.T) {
	for name, m := range allMutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has a process of its own, and some wait
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBroken$/^"+m.check+"$", "-rapid.nofailfile")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: TestBroken/"+m.check)) {
				t.Errorf("the suite did not notice (%v):\n%s", err, out)
			}
		})
	}
}
