package serve

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/secret"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/fs/mount"
	"github.com/meshmount/meshmount/remote"
)

// Runner is a mount at work.
type Runner struct {
	Plan *Plan
	Log  *slog.Logger
	// Signals brings requests to end: the first unmounts, and is taken back if the
	// mount is in use; the second detaches the mount from the tree whoever uses it.
	// Once the mount is gone, every signal but the very first ends the wait for servers:
	// what they have not got stays on this node.
	Signals <-chan os.Signal
	// Ready is called once, when the mount answers, with what is not as it should be.
	Ready func(warnings []string)

	undo       closers
	parts      parts
	warnings   []string        // for Ready
	target     *target         // set once the mount answers
	control    *control.Server // nil if it cannot be had
	unregister func() error    // set once the mount is registered
	signals    int             // since the mount answers
	uploading  bool            // the journal's uploads have begun
	leftovers  pending.Left    // what could not be stored, once that is known
	result     error           // what Run returns
}

// closeTime is how long the release of one thing may take.
const closeTime = 10 * time.Second

// Run mounts, serves until the mount is gone, and puts what is left to the servers.
// The error is an *exit.Error. Whatever happens, nothing half made remains.
func (r *Runner) Run() error {
	holder, err := state.Self(r.Plan.Point, r.Plan.CacheDir)
	if err != nil {
		return err
	}
	lock, err := state.Acquire(holder)
	if err != nil {
		return err
	}
	if err := state.BeginEnding(holder); err != nil {
		r.Log.Warn("unmount may not learn how this process ends", "err", err)
	}
	if err := (&pending.Left{CacheDir: r.Plan.CacheDir}).Write(); err != nil { // it removes an old one
		r.Log.Warn("the list of what an earlier mount has left cannot be removed", "err", err)
	}
	before := r.parked()
	if len(before) > 0 {
		r.Log.Warn("content of earlier mounts that no server took is still here", "files", len(before), "directory", r.parkDir())
	}
	r.undo.add("lock", closeTime, func(context.Context) error { return lock.Release() })
	r.undo.add("ending", closeTime, func(context.Context) error { return state.WriteEnding(holder, r.result) })
	r.undo.add("register", closeTime, func(context.Context) error {
		if r.unregister == nil || r.leftovers.Count > 0 { // "status" finds the cache directory by it
			return nil
		}
		return r.unregister()
	})
	r.undo.add("control socket", closeTime, r.closeControl)
	r.undo.add("result", closeTime, func(context.Context) error { return r.left(before) })
	r.result = r.mountAndServe(holder)
	r.undo.run(context.Background(), r.failed)
	return r.result
}

func (r *Runner) mountAndServe(holder state.Holder) error {
	server, err := r.start()
	if err != nil {
		return err
	}
	if r.unregister, err = state.Register(holder); err != nil {
		r.Log.Warn("unmount will have to ask the mount itself for its process", "err", err)
	}
	r.listen(holder)
	r.startUploads()
	r.Log.Info("mounted", "mountpoint", r.Plan.Point, "pid", os.Getpid(), "version", r.Plan.Version)
	r.Ready(r.warnings)
	r.serve(server)
	r.tidy(server)
	r.target.unmounted()
	r.Log.Info("unmounted", "mountpoint", r.Plan.Point)
	return nil
}

// failed takes note of something that could not be undone.
func (r *Runner) failed(what string, cause error) {
	if exit.CodeOf(cause) == exit.DataLeft {
		r.result = cause
		return
	}
	r.Log.Error("cannot release", "what", what, "err", cause)
	if r.result == nil {
		r.result = exit.New(exit.Failed, "", "%s: %w", what, cause)
	}
}

func (r *Runner) parkDir() string { return filepath.Join(r.Plan.CacheDir, "parked") }

// start makes everything up to the mount. A signal gives it up.
func (r *Runner) start() (*mount.Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watched := r.watch(cancel)
	server, err := r.mount(ctx)
	watched()
	if ctx.Err() == nil {
		return server, err
	}
	if err == nil {
		if err := server.Detach(); err != nil {
			return nil, exit.New(exit.Interrupted, "run: umount "+r.Plan.Point, "interrupted, and the mount cannot be taken away: %w", err)
		}
		server.Wait()
	}
	return nil, exit.New(exit.Interrupted, "", "interrupted before the mount was ready")
}

// watch calls cancel at a signal, until the returned function is called.
func (r *Runner) watch(cancel func()) (stop func()) {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case sig := <-r.Signals:
			r.Log.Warn("giving up", "signal", sig.String())
			cancel()
		case <-over:
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}

func (r *Runner) mount(ctx context.Context) (*mount.Server, error) {
	core, err := r.core(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	server, err := mount.Mount(context.Background(), core, r.Plan.Point, r.mountOptions())
	if err != nil {
		return nil, mountError(err)
	}
	return server, nil
}

// drain closes the core, with what is open and was written: that goes to the journal, or
// to the servers without one.
func (r *Runner) drain(core *fs.FS) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stop := r.hurry(cancel)
		defer stop()
		return core.Close(ctx)
	}
}

// secrets is what adapters ask for their secret.
func (r *Runner) secrets(b *settings.Branch) remote.SecretSource {
	f := secret.Fetcher{Environ: os.Environ(), Timeout: r.Plan.Config.SecretTimeout}
	return f.Source(b, r.Plan.Secrets[b.Name])
}

// warn tells something that the mount can do without, in the log and to whoever mounts.
func (r *Runner) warn(what error) {
	r.Log.Warn(what.Error())
	r.warnings = append(r.warnings, exit.OneLine(what.Error()))
}

func (r *Runner) mountOptions() mount.Options {
	config := &r.Plan.Config
	facts := fusecheck.Look()
	readOnly := !slices.ContainsFunc(config.Branches, func(b settings.Branch) bool { return !b.ReadOnly })
	direct, _ := mount.ParseDirectIO(config.DirectIO) // the table of options allows only its names
	return mount.Options{
		ReadAheadKB: int((config.KernelReadAhead + settings.KiB - 1) / settings.KiB), DirectIO: direct,
		FSName: sourceName(config), AllowOther: config.AllowOther, ReadOnly: readOnly,
		DirectMount: facts.Admin, Options: r.Plan.Kernel, Logger: r.Log,
		NoProbe: true, // who has started this process looks
	}
}

// sourceName is what mount and df show as the source.
func sourceName(c *settings.Config) string {
	switch {
	case c.FSName != "":
		return c.FSName
	case len(c.Branches) == 1:
		return c.Branches[0].URL
	}
	return "meshmount"
}

// hostName is part of the names of conflict copies.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

func mountError(err error) error {
	switch {
	case errors.Is(err, mount.ErrNoFUSE):
		return exit.New(exit.NoFUSE, "run: meshmount doctor", "%w", err)
	case errors.Is(err, unix.EBUSY):
		return exit.New(exit.MountFailed, "choose another mount point", "%w", err)
	}
	return exit.New(exit.MountFailed, "run: meshmount doctor", "%w", err)
}

// serve returns when the mount is gone.
func (r *Runner) serve(server *mount.Server) {
	gone := make(chan struct{})
	go func() {
		server.Wait()
		close(gone)
	}()
	for {
		select {
		case <-gone:
			return
		case sig := <-r.Signals:
			r.signals++
			r.unmount(server, sig, r.signals > 1)
		}
	}
}

// tidy takes away what remains of a mount that was cut off from us (by the abort
// file of its connection) and not unmounted.
func (r *Runner) tidy(server *mount.Server) {
	m, mounted, err := state.FindMount(r.Plan.Point)
	if err != nil || !mounted || m.Type != state.FSType {
		return
	}
	if err := state.Probe(r.Plan.Point, closeTime); !errors.Is(err, unix.ENOTCONN) {
		return // another mount
	}
	r.Log.Warn("the connection was cut")
	if err := server.Detach(); err != nil {
		r.Log.Error("cannot take the dead mount away", "err", err)
	}
}

// unmount does what a signal asks for.
func (r *Runner) unmount(server *mount.Server, sig os.Signal, lazy bool) {
	if lazy {
		r.Log.Warn("detaching the mount; it goes on for those who use it", "signal", sig.String())
		if err := server.Detach(); err != nil {
			r.Log.Error("cannot detach the mount", "err", err)
		}
		return
	}
	r.Log.Info("unmounting", "signal", sig.String())
	if err := server.Unmount(); err != nil {
		r.Log.Warn("cannot unmount, serving on; a second signal detaches the mount", "err", err)
	}
}
