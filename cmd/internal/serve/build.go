package serve

import (
	"context"
	"path/filepath"
	"runtime/debug"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
)

// parts are what a mount's file system is made of. They are closed in the order of the
// file system, journal, read-ahead, branches, cache.
type parts struct {
	store    *cache.Store     // nil without a cache
	journal  *writeback.Store // nil if nothing is written back
	budget   *prefetch.Budget
	core     *fs.FS
	branches []fs.Branch
	stacks   []remote.Backend // of the branches, without the cache
}

// core dials all servers and builds the file system over them.
func (r *Runner) core(ctx context.Context) (*fs.FS, error) {
	config := &r.Plan.Config
	r.boundMemory()
	if err := r.openCache(); err != nil {
		return nil, err
	}
	if err := r.openJournal(); err != nil {
		return nil, err
	}
	dialer := assemble.Dialer{Secrets: r.secrets, Log: r.Log, Agent: "meshmount/" + r.Plan.Version}
	adapters, err := dialer.DialAll(ctx, config.Branches)
	if err != nil {
		return nil, err
	}
	rates := assemble.NewRates(&config.Settings)
	r.parts.budget = prefetch.NewBudget(r.Plan.Memory.Ahead)
	for i := range config.Branches {
		b := &config.Branches[i]
		log := r.Log.With("branch", b.Name)
		log.Info("connected", assemble.Describe(adapters[i])...)
		stack := assemble.Archives(assemble.Stack(adapters[i], b, rates, log), b, log)
		if err := r.addBranch(b, assemble.Browse(stack, b, r.archivesDir(), log)); err != nil {
			return nil, err
		}
	}
	if err := r.addReadAhead(); err != nil {
		return nil, err
	}
	r.addJournal()
	return r.build()
}

// boundMemory tells Go's runtime how much memory there is.
func (r *Runner) boundMemory() {
	m := &r.Plan.Memory
	debug.SetMemoryLimit(m.GC)
	r.Log.Debug("memory", "bytes", m.Whole, "read_ahead", m.Ahead, "bounded_by_cgroup", m.Limited)
}

// openCache opens the block cache, if there is to be one and it can be had.
func (r *Runner) openCache() error {
	store, warning, err := assemble.OpenCache(&r.Plan.Config, r.Plan.Memory, r.Plan.CacheDir, r.Log)
	if err != nil {
		return err
	}
	if warning != nil {
		r.warn(warning)
	}
	if store != nil {
		r.parts.store = store
		r.undo.add("block cache", closeTime, func(context.Context) error {
			if err := store.Close(); err != nil { // nothing in it is precious
				r.Log.Warn("the block cache could not be closed well; the next mount begins it anew where needed", "err", err)
			}
			return nil
		})
	}
	return nil
}

// archivesDir returns where indexes of archives are kept, "" if nothing is.
func (r *Runner) archivesDir() string {
	if r.parts.store == nil {
		return ""
	}
	return assemble.ArchivesDir(r.Plan.CacheDir)
}

// addBranch makes a branch of the file system from a stack of decorators.
func (r *Runner) addBranch(b *settings.Branch, stack remote.Backend) error {
	branch := fs.Branch{
		Prefix: "/" + b.Name, Backend: stack, ReadOnly: b.ReadOnly,
		AttrTTL: b.AttrTTL, DirTTL: b.DirTTL, NegTTL: b.NegativeTTL, DirStale: b.DirStale,
		SmallAhead: b.SmallAhead, BundleReads: b.BundleReads, Listings: b.Listings,
	}
	if store := r.parts.store; store != nil {
		size := int64(store.Stats().MaxSlots) * int64(store.BlockSize())
		branch.Blocks = store.Wrap(stack, assemble.CachePolicy(b, r.Plan.Memory, len(r.Plan.Config.Branches), size))
		branch.Backend, branch.Tree = branch.Blocks, store.Tree(assemble.ListTree(b))
	}
	backend := branch.Backend
	r.undo.add("branch "+b.Name, closeTime, func(context.Context) error { return backend.Close() })
	if journal := r.parts.journal; journal != nil && !b.ReadOnly {
		back, err := journal.Wrap(backend, assemble.WritePolicy(b, r.Plan.Config.Umask, branch.Blocks))
		if err != nil {
			return exit.New(exit.Failed, "", "%s: %w", b.Title(), err)
		}
		branch.Backend, branch.Back = back, back
	}
	r.parts.branches = append(r.parts.branches, branch)
	r.parts.stacks = append(r.parts.stacks, stack)
	return nil
}

// addReadAhead gives each branch that wants it a reader ahead.
func (r *Runner) addReadAhead() error {
	for i := range r.parts.branches {
		b := &r.Plan.Config.Branches[i]
		if b.ReadAhead == 0 {
			continue
		}
		ahead, err := prefetch.New(prefetch.Options{
			Budget: r.parts.budget, Streams: b.Streams, MaxRequest: int64(b.MaxRequest), MaxWindow: int64(b.ReadAhead),
		})
		if err != nil {
			return exit.New(exit.Failed, "", "%s: %w", b.Title(), err)
		}
		r.undo.add("read-ahead of "+b.Name, closeTime, func(context.Context) error { return ahead.Close() })
		r.parts.branches[i].Ahead = ahead
	}
	return nil
}

// build makes the core and has it closed before all that it uses.
func (r *Runner) build() (*fs.FS, error) {
	config := &r.Plan.Config
	opts := fs.Options{
		UID: uint32(config.UID), GID: uint32(config.GID), Umask: uint32(config.Umask),
		StageDir: filepath.Join(r.Plan.CacheDir, "stage"), ParkDir: r.parkDir(),
		Hostname: hostName(), Logger: r.Log, MetaMemory: r.Plan.Memory.Meta,
		FsyncRemote: config.Fsync == settings.FsyncRemote,
	}
	for _, dir := range []string{opts.StageDir, opts.ParkDir} {
		if err := state.Private(dir); err != nil {
			return nil, err
		}
	}
	core, err := fs.New(opts, r.parts.branches)
	if err != nil {
		return nil, exit.New(exit.Failed, "", "cannot build the file system: %w", err)
	}
	r.parts.core = core
	r.undo.add("written data", config.DrainTimeout, r.drain(core))
	return core, nil
}
