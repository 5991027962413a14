package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// controlTime is how long the process of a mount may take to answer.
const controlTime = 2 * time.Minute

func (p *Program) refreshCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "refresh PATH...",
		Short: "have a mount look at the server again",
		Long:  "Have the mount that PATH lies in forget what it remembers of PATH, a file or directory,\nand of all that is below it, before --attr-ttl and --dir-ttl are over. PATH need not\nexist, so that a file which has just been made elsewhere can be named. What was read of\nfiles that did not change stays in the cache.",
		Args:  argsFor("PATH", 1, -1),
	}
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ctx, stop := controlContext(c)
		defer stop()
		for _, arg := range args {
			if err := p.refresh(ctx, settings.Absolute(arg, p.Dir)); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func (p *Program) refresh(ctx context.Context, path string) error {
	client, m, inside, err := reach(ctx, path)
	if err != nil {
		return err
	}
	return answered(m, client.Refresh(ctx, inside))
}

func (p *Program) statsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "stats [flags] MOUNTPOINT",
		Short: "tell what a mount has done so far",
		Long:  "Print what the mount at MOUNTPOINT, or the one that this path lies in, has done since it\nbegan: memory in use, what came from the cache, what was read ahead, and the requests to\neach server by operation, with bytes and errors.",
		Args:  argsFor("MOUNTPOINT", 1, 1), ValidArgsFunction: onlyDirs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ctx, stop := controlContext(c)
		defer stop()
		client, m, _, err := reach(ctx, settings.Absolute(args[0], p.Dir))
		if err != nil {
			return err
		}
		stats, err := client.Stats(ctx)
		if err := answered(m, err); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(p.Stdout, stats)
		}
		return writeStats(p.Stdout, &stats)
	})
	return c
}

func onlyDirs(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// controlContext ends with a signal, or when the time for an answer is over.
func controlContext(c *cobra.Command) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	return ctx, func() { cancel(); stop() }
}

// reach finds the mount that an absolute path lies in, the path within it, and the
// process to talk to.
func reach(ctx context.Context, path string) (client *control.Client, m state.Mount, inside string, err error) {
	if m, inside, err = state.Locate(path); err != nil {
		return nil, m, "", err
	}
	holder, err := state.HolderOfMount(ctx, m)
	if err != nil {
		return nil, m, "", err
	}
	return control.NewClient(holder.Control), m, inside, nil
}

// answered makes an *exit.Error of what the process behind a mount says.
func answered(m state.Mount, err error) error {
	var why error = err
	if e, ok := errors.AsType[*remote.Error](err); ok && e.Err != nil {
		why = e.Err
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return exit.New(exit.Interrupted, "", "interrupted while waiting for the mount on %s", m.Point)
	case errors.Is(err, context.DeadlineExceeded):
		return exit.New(exit.NoAnswer, "see its log", "the process behind the mount on %s does not answer in time", m.Point)
	case errors.Is(err, remote.Permission):
		return exit.New(exit.NotYours, "run it as that user or as root", "the mount on %s: %w", m.Point, why)
	case errors.Is(err, remote.NotExist), errors.Is(err, remote.Unavailable):
		if errors.Is(why, os.ErrNotExist) { // its process takes the socket away when it ends
			if _, _, gone := state.Locate(m.Point); gone != nil {
				return gone
			}
		}
		return exit.New(exit.NoAnswer, "see its log", "the mount on %s: %w", m.Point, why)
	}
	return exit.New(exit.Failed, "", "the mount on %s: %w", m.Point, err)
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// writeStats prints stats for people.
func writeStats(out io.Writer, s *control.Stats) error {
	w := &textWriter{w: out}
	w.printf("%s: process %d, meshmount %s, up %s\n", exit.OneLine(s.Mountpoint), s.PID, s.Version, time.Since(s.Started).Round(time.Second))
	w.printf("memory: %s in use, %s of objects; bound %s\n", doctor.Bytes(s.Memory.Resident), doctor.Bytes(s.Memory.Heap), doctor.Bytes(s.Memory.Limit))
	writeCache(w, s.Cache)
	if a := s.Ahead; a != nil {
		w.printf("read ahead: %s in use, %s at most so far, bound %s; %d files, refused %d times\n",
			doctor.Bytes(a.Used), doctor.Bytes(a.Most), doctor.Bytes(a.Limit), a.Readers, a.Refused)
	} else {
		w.printf("read ahead: off\n")
	}
	for i := range s.Branches {
		writeBranch(w, &s.Branches[i])
	}
	return w.err
}

func writeCache(w *textWriter, c *control.Cache) {
	if c == nil {
		w.printf("cache: off\n")
		return
	}
	w.printf("cache: %s", c.State)
	if c.Reason != "" {
		w.printf(" (%s)", exit.OneLine(c.Reason))
	}
	block := int64(c.BlockSize)
	w.printf(", %s of %s taken, in %s\n", doctor.Bytes(int64(c.Slots-c.Free)*block), doctor.Bytes(int64(c.MaxSlots)*block), exit.OneLine(c.Dir))
	w.printf("  %d reads from it (%s), %d not; %d blocks taken in (%s), %d not, %d pushed out, %d corrupt\n",
		c.Hits, doctor.Bytes(c.HitBytes), c.Misses, c.Puts, doctor.Bytes(c.PutBytes), c.Refused, c.Evicted, c.Corrupt)
	if l := c.Listings; l.On {
		w.printf("  %d listings kept (%s of %s), %d of %d that were wanted\n", l.Kept, doctor.Bytes(l.Bytes), doctor.Bytes(l.MaxBytes), l.Hits, l.Loads)
	} else {
		w.printf("  listings are not kept: %s\n", exit.OneLine(l.Reason))
	}
}

func writeBranch(w *textWriter, b *control.Branch) {
	name := b.Name
	if name == "" {
		name = "="
	}
	w.printf("branch %s (%s):\n", exit.OneLine(name), exit.OneLine(b.URL))
	if w.err != nil {
		return
	}
	if len(b.Ops) == 0 {
		w.printf("  no requests\n")
		return
	}
	table := tabwriter.NewWriter(w.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(table, "  operation\trequests\tunder way\terrors\tmean\tlongest\treceived\tsent\t\n")
	for _, name := range slices.Sorted(maps.Keys(b.Ops)) {
		op := b.Ops[name]
		failed, mean := op.Cancelled, 0.0
		for _, n := range op.Errors {
			failed += n
		}
		if op.Calls > 0 {
			mean = op.Seconds / float64(op.Calls)
		}
		_, _ = fmt.Fprintf(table, "  %s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", exit.OneLine(name), op.Calls, op.InFlight, failed,
			milliseconds(mean), milliseconds(op.Longest), doctor.Bytes(op.Received), doctor.Bytes(op.Sent))
	}
	w.err = table.Flush()
}

func milliseconds(seconds float64) string { return fmt.Sprintf("%.1f ms", seconds*1000) }
