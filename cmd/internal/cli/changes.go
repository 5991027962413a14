package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/progress"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

const flushLong = `Wait until nothing that was written at or below PATH, a file or directory in a mount, is
left to be stored on its server. Without PATH all mounts of this user are meant. What is
written meanwhile is waited for, too. If something cannot be stored it is named, and the
exit code is 53; so it is if it is not done within --timeout.`

func (p *Program) flushCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "flush [flags] [PATH]", Short: "wait until what was written is on the servers", Long: flushLong,
		Args: argsFor("", 0, 1),
	}
	asJSON := c.Flags().Bool("json", false, "print what is left as JSON")
	timeout := c.Flags().String("timeout", "0", "how long to wait; 0 = for ever")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		patience, err := settings.ParseDuration(*timeout)
		if err != nil {
			return exit.New(exit.Usage, "", "command line --timeout: %w", err)
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if patience > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		mounts, err := p.meant(ctx, args, "")
		if err != nil {
			return err
		}
		return p.flush(ctx, mounts, *asJSON)
	})
	return c
}

// flush waits for all these mounts and prints what is left.
func (p *Program) flush(ctx context.Context, mounts []*aMount, asJSON bool) error {
	lists, first := []pending.Left{}, error(nil)
	for _, m := range mounts {
		left, err := p.flushOne(ctx, m)
		if err != nil && first == nil {
			first = err
		}
		lists = append(lists, left)
		if !asJSON {
			w := &textWriter{w: p.Stdout}
			for i := range left.Changes {
				w.printf("%s\n", describeItem(&left.Changes[i]))
			}
			if err := w.err; err != nil {
				return err
			}
		}
	}
	if asJSON {
		return errors.Join(first, printJSON(p.Stdout, lists))
	}
	return first
}

// flushOne waits for one mount.
func (p *Program) flushOne(ctx context.Context, m *aMount) (pending.Left, error) {
	left := pending.Left{Mountpoint: m.Point, CacheDir: m.Dir, Changes: []control.Item{}}
	if !m.live() {
		return left, exit.New(exit.DataLeft, "mount it again: it is uploaded then; see: meshmount status "+m.Point, "changes of the mount on %s wait in %s", m.Point, m.Dir)
	}
	meter := progress.New(p.Stderr)
	rest, err := m.client().Flush(ctx, m.inside, meter.Show)
	meter.Clear()
	for _, i := range rest.Items {
		left.Add(i)
	}
	left.Count += rest.LeftOut
	switch {
	case err == nil:
		return left, nil
	case left.Count > 0:
		return left, exit.New(exit.DataLeft, "see: meshmount status "+m.Point, "%s at %s cannot be stored: %s", pending.Number(left.Count), m.Point, names(left.Changes))
	case errors.Is(err, context.DeadlineExceeded):
		return left, exit.New(exit.DataLeft, "it goes on; see: meshmount status "+m.Point, "not all that was written at %s is on its server yet", m.Point)
	}
	return left, m.fault(err)
}

// mostNamed is how many changes a message names.
const mostNamed = 3

// names names some changes, with their causes.
func names(list []control.Item) string {
	var some []string
	for i := range list[:min(len(list), mostNamed)] {
		text := list[i].Path
		if list[i].Cause != "" {
			text += " (" + list[i].Cause + ")"
		}
		some = append(some, exit.OneLine(text))
	}
	if len(list) > mostNamed {
		some = append(some, "...")
	}
	return strings.Join(some, ", ")
}

func (p *Program) retryCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "retry [flags] ID... | --all", Short: "try again what could not be stored",
		Long: "Have parked changes, which the server has refused, uploaded again. Their numbers are told\nby \"meshmount status\".",
		Args: argsFor("", 0, -1),
	}
	all := c.Flags().Bool("all", false, "all parked changes")
	f := p.mountFlags(c)
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ids, err := numbers(args)
		if err != nil {
			return err
		}
		if *all == (len(ids) > 0) {
			return exit.New(exit.Usage, helpOn(c), "retry: name changes by their numbers, or use --all")
		}
		return f.do(c, func(ctx context.Context, on changes) error {
			if *all {
				n, err := on.RetryAll(ctx)
				if err == nil {
					_, err = fmt.Fprintf(p.Stdout, "%s will be tried again\n", pending.Number(n))
				}
				return err
			}
			return eachNumber(ids, func(id uint64) error { return on.Retry(ctx, id) })
		})
	})
	return c
}

// consent is the flag without which nothing is dropped.
const consent = "i-know-this-loses-data"

func (p *Program) dropCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "drop --" + consent + " ID...", Short: "give up changes that could not be stored",
		Long: "Forget changes, by the numbers that \"meshmount status\" tells. What was written and is on no\nserver is lost: copy it first with \"meshmount export\".",
		Args: argsFor("ID", 1, -1),
	}
	sure := c.Flags().Bool(consent, false, "without it nothing is done")
	f := p.mountFlags(c)
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ids, err := numbers(args)
		if err != nil {
			return err
		}
		if !*sure {
			return exit.New(exit.Usage, "copy it with: meshmount export DIR; then use --"+consent, "drop loses what was written")
		}
		return f.do(c, func(ctx context.Context, on changes) error {
			return eachNumber(ids, func(id uint64) error { return on.Drop(ctx, id) })
		})
	})
	return c
}

// numbers reads the numbers of changes.
func numbers(args []string) ([]uint64, error) {
	var ids []uint64
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || id == 0 {
			return nil, exit.New(exit.Usage, "see: meshmount status", "%q is not the number of a change", arg)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// eachNumber does something with each change.
func eachNumber(ids []uint64, do func(uint64) error) error {
	for _, id := range ids {
		err := do(id)
		switch remote.KindOf(err) {
		case remote.NotExist, remote.Locked:
			if e, ok := errors.AsType[*remote.Error](err); ok && e.Err != nil {
				err = e.Err
			}
			return exit.New(exit.NoChange, "see: meshmount status", "change %d: %w", id, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// do does something with the changes of the mount that is meant. It may take its time.
func (f mountFlags) do(c *cobra.Command, what func(context.Context, changes) error) error {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	m, err := f.one(ctx)
	if err != nil {
		return err
	}
	on, done, err := m.open()
	if err != nil {
		return err
	}
	return m.fault(errors.Join(what(ctx, on), done()))
}

func (p *Program) exportCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "export [flags] DIR [ID...]", Short: "copy what could not be stored to a directory",
		Long: "Copy the content of parked changes, or of those with these numbers, to files below DIR, each\nat its path in the mount. Nothing is overwritten. The changes stay parked.",
		Args: argsFor("DIR", 1, -1), ValidArgsFunction: onlyDirs,
	}
	asJSON := c.Flags().Bool("json", false, "print what was copied as JSON")
	f := p.mountFlags(c)
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ids, err := numbers(args[1:])
		if err != nil {
			return err
		}
		dir := settings.Absolute(args[0], p.Dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return f.do(c, func(ctx context.Context, on changes) error { return p.export(ctx, on, dir, ids, *asJSON) })
	})
	return c
}

// export copies and tells each copy.
func (p *Program) export(ctx context.Context, on changes, dir string, ids []uint64, asJSON bool) error {
	w, list, failed := &textWriter{w: p.Stdout}, []control.Exported{}, 0
	err := on.Export(ctx, dir, ids, func(e control.Exported) error {
		if e.Error != "" {
			failed++
		}
		switch {
		case asJSON:
			list = append(list, e)
		case e.Error != "":
			w.printf("%d %s: not copied: %s\n", e.ID, exit.OneLine(e.Path), exit.OneLine(e.Error))
		default:
			w.printf("%d %s: %s\n", e.ID, exit.OneLine(e.Path), exit.OneLine(e.File))
		}
		return w.err
	})
	if asJSON && err == nil {
		err = printJSON(p.Stdout, list)
	}
	if err == nil && failed > 0 {
		return exit.New(exit.Failed, "", "%s could not be copied to %s", pending.Number(failed), dir)
	}
	return err
}

func (p *Program) pauseCommand(hold bool) *cobra.Command {
	c := &cobra.Command{
		Use: "resume [MOUNTPOINT]", Short: "go on with uploads",
		Long: "Go on with the uploads that \"meshmount pause\" has stopped, in the mount at MOUNTPOINT or in\nall of this user's.",
		Args: argsFor("", 0, 1), ValidArgsFunction: onlyDirs,
	}
	if hold {
		c.Use, c.Short = "pause [MOUNTPOINT]", "hold uploads"
		c.Long = "Begin no uploads in the mount at MOUNTPOINT, or in all of this user's, until \"meshmount\nresume\" or an unmount. Programs can write on until --staging-size is reached."
	}
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ctx, stop := controlContext(c)
		defer stop()
		mounts, err := p.meant(ctx, args, "")
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if !m.live() {
				if len(args) > 0 {
					return exit.New(exit.NotMounted, "", "%s has ended", m.title())
				}
				continue
			}
			if err := m.fault(m.client().Pause(ctx, hold)); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}
