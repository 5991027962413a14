package serve

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/progress"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
)

// openJournal opens the journal of changes, if there is to be one. Without one, what
// earlier mounts have left in it is told.
func (r *Runner) openJournal() error {
	r.warnOthers()
	if !assemble.WritesBack(&r.Plan.Config) {
		r.warnLeft(r.Plan.CacheDir, "they are uploaded by a mount with --write=back")
		return nil
	}
	journal, err := assemble.OpenJournal(&r.Plan.Config, r.Plan.CacheDir, hostName(), r.Log)
	if err != nil {
		return err
	}
	r.parts.journal = journal
	// In case the branches cannot be had. A second Close does nothing.
	r.undo.add("journal", closeTime, func(context.Context) error { return journal.Close() })
	return nil
}

// warnOthers tells of changes that wait in other cache directories of this mount point:
// other branches, or another --cache-dir, were mounted there.
func (r *Runner) warnOthers() {
	root, err := state.CacheRoot()
	if err != nil {
		return
	}
	others, err := state.CacheDirsOf(root, r.Plan.Point)
	if err != nil {
		return
	}
	for _, c := range others {
		if c.Dir != r.Plan.CacheDir && c.PID == 0 {
			r.warnLeft(c.Dir, "they are uploaded by a mount of the same branches with --cache-dir="+c.Dir)
		}
	}
}

// warnLeft tells of changes that wait in a cache directory.
func (r *Runner) warnLeft(cacheDir, remedy string) {
	n, err := pending.Count(cacheDir)
	switch {
	case err != nil:
		r.warn(exit.New(exit.CacheBad, "", "it is not known whether changes of an earlier mount wait in %s: %w", cacheDir, err))
	case n > 0:
		r.warn(exit.New(exit.DataLeft, remedy, "%s of an earlier mount wait in %s", pending.Number(n), cacheDir))
	}
}

// addJournal has the journal closed before the branches: first it is drained.
func (r *Runner) addJournal() {
	journal := r.parts.journal
	if journal == nil {
		return
	}
	r.undo.add("journal", closeTime, func(context.Context) error {
		err := journal.Close()
		r.noteLeft()
		return err
	})
	r.undo.add("uploads", r.Plan.Config.DrainTimeout, r.upload)
}

// startUploads has the uploads begin, those of earlier mounts first, and tells what does
// not go by itself.
func (r *Runner) startUploads() {
	journal := r.parts.journal
	if journal == nil {
		return
	}
	now := journal.Status()
	if len(now.Items) > 0 {
		r.Log.Info("changes of earlier mounts are still to be stored", "changes", len(now.Items))
	}
	if text := assemble.Waiting(&now, r.Plan.Point); text != "" {
		r.warn(exit.New(exit.DataLeft, "", "%s", text))
	}
	journal.Start()
	r.uploading = true
}

// tellTime is how often the log tells how uploads go that an end waits for.
const tellTime = 10 * time.Second

// upload waits until all changes are stored, the context ends, or a signal ends the wait.
func (r *Runner) upload(ctx context.Context) error {
	if !r.uploading { // nothing was mounted
		return nil
	}
	journal := r.parts.journal
	if journal.Status().Paused {
		r.Log.Info("uploads were paused, and go on for the unmount")
		journal.Resume()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := r.hurry(cancel)
	defer stop()
	over := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() { r.tellUploads(over) })
	err := journal.Drain(ctx)
	close(over)
	telling.Wait()
	if err != nil {
		r.Log.Warn("not all that was written is on its server", "err", err)
	}
	return nil // what is left is told by noteLeft
}

// tellUploads logs now and then how uploads go.
func (r *Runner) tellUploads(over <-chan struct{}) {
	tick := time.NewTicker(tellTime)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if p, err := r.target.Progress(context.Background()); err == nil {
			r.Log.Info("uploading before the end", "left", progress.Text(&p))
		}
	}
}

// hurry calls cancel at the signal that ends a wait for servers, until the returned
// function is called. A first signal asks for the end of the mount, which has come; it
// takes another one.
func (r *Runner) hurry(cancel func()) (stop func()) {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-over:
				return
			case sig := <-r.Signals:
				if r.signals++; r.signals > 1 {
					r.Log.Warn("giving up the wait for servers", "signal", sig.String())
					cancel()
					return
				}
				r.Log.Info("what was written is being stored before the end; another signal ends the wait", "signal", sig.String())
			}
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}

// noteLeft takes note of what the closed journal still has.
func (r *Runner) noteLeft() {
	j := r.changes()
	_ = j.Items(context.Background(), func(i control.Item) error {
		r.leftovers.Add(i)
		return nil
	})
}

// changes tells of the journal what package control wants to know.
func (r *Runner) changes() *pending.Journal {
	return &pending.Journal{Store: r.parts.journal, Names: pending.LoadNames(r.Plan.CacheDir), Frame: r.frame}
}

var _ pending.Store = (*writeback.Store)(nil)

// frame is what a status says of the mount.
func (r *Runner) frame() control.Status {
	s := control.Status{
		Mountpoint: r.Plan.Point, CacheDir: r.Plan.CacheDir, PID: os.Getpid(), State: control.StateMounted, Write: r.Plan.Config.Settings.Write,
		Branches: []control.BranchStatus{}, Items: []control.Item{},
	}
	if r.target != nil && r.target.isUnmounted() {
		s.State = control.StateDraining
	}
	return s
}
