package keep_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// packed makes every new small file a member of an archive of its own, so that the suite
// meets members wherever it puts files.
type packed struct{ *keep.Backend }

// Unwrap implements remote.Unwrapper: abilities are those of the backend.
func (p packed) Unwrap() remote.Backend { return p.Backend }

// Put implements remote.Backend.
func (p packed) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	if opts.Cond.Version == "" && src.Size() <= 1<<20 {
		got, err := p.PutBatch(ctx, []remote.BatchItem{{Path: path, Source: src, Attrs: opts.Attrs, Loose: opts.Loose, Redo: opts.Redo, Tag: opts.Tag}})
		if err != nil {
			return remote.Entry{}, err
		}
		switch k := remote.KindOf(got[0].Err); {
		case got[0].Err == nil:
			return got[0].Entry, nil
		case k == remote.Unsupported, k == remote.Exist && !opts.Cond.NotExist, k == remote.Invalid && !errors.Is(got[0].Err, remotetest.ErrSource):
		default:
			return remote.Entry{}, got[0].Err
		}
	}
	return p.Backend.Put(ctx, path, src, opts)
}

// able has the abilities of the memory server but two: a member that gets an extended
// attribute becomes a file of another version, and none is changed in parts.
type able struct {
	remote.Backend
	remote.AttrSetter
	remote.AttrBatcher
	remote.Symlinker
	remote.Opener
	remote.Usager
	remote.Locator
	remote.Replicator
	remote.TreeRemover
	remote.Tracker
	remote.GrowingPutter
	remote.Sweeper
	remote.Batcher
	remote.Pruner
}

func without(m *memory.Backend) remote.Backend { return able{m, m, m, m, m, m, m, m, m, m, m, m, m, m} }

// TestNothingGoesPast wants every ability that a call passes through to be one of keep as well:
// it would be found below it, and know nothing of members.
func TestNothingGoesPast(t *testing.T) {
	all := remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, _ *remote.Call, next remote.Next) error { return next(ctx) })
	ours, theirs := reflect.TypeFor[*keep.Backend](), reflect.TypeOf(all)
	for m := range theirs.Methods() {
		if _, ok := ours.MethodByName(m.Name); !ok {
			t.Errorf("keep has no %s", m.Name)
		}
	}
	if theirs.NumMethod() < 20 {
		t.Errorf("only %d methods were compared", theirs.NumMethod())
	}
}

var servers = map[string]memory.Options{
	"Strong":    {},
	"Weak":      {WeakVersions: true, Granularity: time.Second},
	"Propagate": {Propagate: true, Checksums: true, AttrVersions: true},
	"Unguarded": {Unguarded: true, NoRanges: true, NoMTime: true, NoMode: true},
}

// TestConformance runs the suite over servers of several kinds, with plain files and with
// members, and with a second client that knows nothing of the first.
func TestConformance(t *testing.T) {
	for name, opts := range servers {
		for _, members := range []bool{false, true} {
			if !members && name != "Strong" {
				continue // as the server without us
			}
			if members {
				name += "Members"
			}
			t.Run(name, func(t *testing.T) {
				remotetest.Run(t, func(t *testing.T) remotetest.Target { return target(opts, members) })
			})
		}
	}
}

func target(opts memory.Options, members bool) remotetest.Target {
	var server remote.Backend = memory.New(opts)
	if members {
		server = without(server.(*memory.Backend))
	}
	faulty := remotetest.Faulty(server, remotetest.Plan{})
	client := func(below remote.Backend) remote.Backend {
		if members {
			return packed{keep.Wrap(below, keep.Options{Fewest: 1})}
		}
		return keep.Wrap(below, keep.Options{})
	}
	return remotetest.Target{Backend: client(faulty), Other: client(server), Stall: faulty.Stall, LargeDir: 100, LargeFile: 1<<20 + 3, KeepsOld: members}
}

// TestModelUnderFaults wants random changes of members and files, on a server that fails
// often, to look as those of a good one.
func TestModelUnderFaults(t *testing.T) {
	var faulty *remotetest.FaultyBackend
	remotetest.RunModel(t, func(*testing.T) remotetest.Target {
		faulty = remotetest.Faulty(without(memory.New(memory.Options{Checksums: true})), remotetest.Plan{Seed: 1, Rules: []remotetest.Rule{
			{P: 0.05, Fault: remotetest.FaultLost},
			{P: 0.05, Fault: remotetest.FaultError},
			{P: 0.05, Fault: remotetest.FaultTruncate},
			{P: 0.05, Fault: remotetest.FaultReset},
		}})
		below := remote.Retry(faulty, remote.RetryOptions{Tries: 30, Wait: 50 * time.Microsecond, MaxWait: time.Millisecond})
		return remotetest.Target{Backend: packed{keep.Wrap(below, keep.Options{Fewest: 1})}}
	})
	if n := faulty.Injected(); n < 500 {
		t.Errorf("only %d faults were injected", n)
	}
}
