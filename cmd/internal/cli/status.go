package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/fs/control"
)

const statusLong = `Tell what was written in a mount and is not on its server yet: of each branch how much is
pending and being uploaded, with rate and time left, what is parked because it cannot be
stored, why a branch is held, and which files somebody else had changed, too. Without
MOUNTPOINT all mounts of this user are meant. A mount that is unmounted and still uploads,
or that has ended and left changes in its cache directory, is shown as well.

Not more than some changes are named, those that need attention first; --all names all.`

// How many changes a status names: for people, and as JSON.
const (
	itemsForPeople = 20
	itemsAsJSON    = control.MaxItems
)

func (p *Program) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "status [flags] [MOUNTPOINT]", Short: "tell what is not on the servers yet", Long: statusLong,
		Args: argsFor("", 0, 1), ValidArgsFunction: onlyDirs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON")
	all := c.Flags().Bool("all", false, "name all changes")
	dir := c.Flags().String("cache-dir", "", "the directory that was given to mount with --cache-dir, of a mount that is gone")
	_ = c.MarkFlagDirname("cache-dir") // the flag exists
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		ctx, stop := controlContext(c)
		defer stop()
		mounts, err := p.meant(ctx, args, *dir)
		if err != nil {
			return err
		}
		s := statusWriter{w: &textWriter{w: p.Stdout}, all: *all}
		if *asJSON {
			return p.statusJSON(ctx, mounts, *all)
		}
		return s.write(ctx, mounts)
	})
	return c
}

// meant returns the mounts that a command is about: the one that is named, or all.
func (p *Program) meant(ctx context.Context, args []string, dir string) ([]*aMount, error) {
	var m *aMount
	var err error
	switch {
	case len(args) > 0 && dir != "":
		return nil, exit.New(exit.Usage, "leave one of them out", "there are both a mount point and --cache-dir")
	case len(args) > 0:
		m, err = p.mountAt(ctx, args[0])
	case dir != "":
		m, err = p.mountIn(dir)
	default:
		return p.everyMount()
	}
	if err != nil {
		return nil, err
	}
	return []*aMount{m}, nil
}

// statusReport is an element of what status --json prints.
type statusReport struct {
	control.Status
	Error string `json:"error,omitempty"`
}

// statusJSON prints the statuses as a JSON array.
func (p *Program) statusJSON(ctx context.Context, mounts []*aMount, all bool) error {
	reports, first := []statusReport{}, error(nil)
	for _, m := range mounts {
		r, err := m.report(ctx, all)
		if err != nil {
			r.Mountpoint, r.CacheDir, r.PID, r.Error = m.Point, m.Dir, m.PID, exit.OneLine(err.Error())
			first = cmp.Or(first, err)
		}
		reports = append(reports, r)
	}
	return errors.Join(first, printJSON(p.Stdout, reports))
}

// report asks one mount.
func (m *aMount) report(ctx context.Context, all bool) (r statusReport, err error) {
	c, done, err := m.open()
	if err != nil {
		return r, err
	}
	items := itemsAsJSON
	if all {
		items = 0
	}
	if r.Status, err = lookTwice(ctx, c, items); err == nil && all {
		r.LeftOut = 0
		err = c.Items(ctx, func(i control.Item) error {
			r.Items = append(r.Items, i)
			return nil
		})
	}
	return r, m.fault(errors.Join(err, done()))
}

// secondLook is after how long uploads under way have a rate.
const secondLook = 500 * time.Millisecond

// lookTwice returns the status, a bit later if uploads have no rate yet: it takes two
// looks to see how fast they go.
func lookTwice(ctx context.Context, c changes, items int) (control.Status, error) {
	s, err := c.Status(ctx, items)
	if err != nil || s.Uploading == 0 || s.Rate > 0 {
		return s, err
	}
	select {
	case <-time.After(secondLook):
	case <-ctx.Done():
		return s, ctx.Err()
	}
	return c.Status(ctx, items)
}

// statusWriter prints statuses for people.
type statusWriter struct {
	w   *textWriter
	all bool
}

func (s *statusWriter) write(ctx context.Context, mounts []*aMount) error {
	if len(mounts) == 0 {
		s.w.printf("there are no mounts\n")
	}
	var first error
	for i, m := range mounts {
		if i > 0 {
			s.w.printf("\n")
		}
		if err := s.mount(ctx, m); err != nil {
			s.w.printf("%s: %s\n", exit.OneLine(cmp.Or(m.Point, m.Dir)), exit.OneLine(err.Error()))
			first = cmp.Or(first, err)
		}
	}
	return errors.Join(first, s.w.err)
}

// mount prints what is told of one mount.
func (s *statusWriter) mount(ctx context.Context, m *aMount) error {
	c, done, err := m.open()
	if err != nil {
		return err
	}
	items := itemsForPeople
	if s.all {
		items = 0
	}
	status, err := lookTwice(ctx, c, items)
	if err == nil {
		s.status(&status)
		err = s.items(ctx, c, &status)
	}
	return m.fault(errors.Join(err, done()))
}

// status prints all but the items.
func (s *statusWriter) status(now *control.Status) {
	name := cmp.Or(now.Mountpoint, now.CacheDir)
	s.w.printf("%s: %s", exit.OneLine(name), describe(now))
	if now.Limit > 0 {
		s.w.printf(", %s of %s staged", doctor.Bytes(now.Staged), doctor.Bytes(now.Limit))
	} else if now.Staged > 0 {
		s.w.printf(", %s staged", doctor.Bytes(now.Staged))
	}
	s.w.printf("\n")
	if now.Full != "" {
		s.w.printf("  %s\n", exit.OneLine(now.Full))
	}
	if now.Damage != "" {
		s.w.printf("  the journal is damaged: %s\n", exit.OneLine(now.Damage))
	}
	if now.Paused {
		s.w.printf("  uploads are paused; go on with: meshmount resume %s\n", exit.OneLine(now.Mountpoint))
	}
	s.branches(now.Branches)
	for i := range now.Branches {
		b := &now.Branches[i]
		if b.Held != "" {
			s.w.printf("  held: %s: %s\n", exit.OneLine(b.Name), exit.OneLine(b.Held))
		}
		if !b.Mounted && now.State != control.StateEnded {
			s.w.printf("  not mounted: %s waits for a mount of %s\n", exit.OneLine(b.Name), exit.OneLine(b.Tree))
		}
		for _, c := range b.Conflicts {
			s.w.printf("  conflict: %s\n", describeConflict(&c))
		}
	}
}

func describeConflict(c *control.Conflict) string {
	when := c.Time.Local().Format(time.DateTime)
	if c.Copy == "" {
		return fmt.Sprintf("%s was changed elsewhere and is not removed (%s)", exit.OneLine(c.Path), when)
	}
	return fmt.Sprintf("%s was changed elsewhere, too; ours is %s (%s)", exit.OneLine(c.Path), exit.OneLine(c.Copy), when)
}

// describe tells how a mount is.
func describe(now *control.Status) string {
	switch now.State {
	case control.StateEnded:
		return "not mounted; what is left is uploaded by the next mount with " + exit.OneLine(now.CacheDir)
	case control.StateDraining:
		return fmt.Sprintf("unmounted, and process %d still uploads", now.PID)
	}
	return fmt.Sprintf("process %d, writes %s", now.PID, now.Write)
}

// branches prints the table of branches.
func (s *statusWriter) branches(list []control.BranchStatus) {
	if s.w.err != nil || len(list) == 0 {
		return
	}
	table := tabwriter.NewWriter(s.w.w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "  branch\tpending\tbytes\tuploading\trate\ttime left\tparked\tconflicts\n")
	for i := range list {
		b := &list[i]
		rate, left := "", ""
		if b.Uploading > 0 {
			p := control.Progress{Bytes: b.Bytes, Sent: b.Sent, Rate: b.Rate}
			rate, left = perSecond(b.Rate), timeLeft(p.TimeLeft())
		}
		_, _ = fmt.Fprintf(table, "  %s\t%d\t%s\t%d\t%s\t%s\t%d\t%d\n", exit.OneLine(b.Name), b.Pending, doctor.Bytes(max(b.Bytes-b.Sent, 0)),
			b.Uploading, rate, left, b.Parked, b.ConflictCount)
	}
	s.w.err = table.Flush()
}

func perSecond(rate float64) string {
	if rate < 1 {
		return ""
	}
	return doctor.Bytes(int64(rate)) + "/s"
}

func timeLeft(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.String()
}

// items prints the changes, all of them if that is wanted.
func (s *statusWriter) items(ctx context.Context, c changes, now *control.Status) error {
	if s.all {
		return c.Items(ctx, func(i control.Item) error {
			s.w.printf("%s\n", describeItem(&i))
			return s.w.err
		})
	}
	for i := range now.Items {
		s.w.printf("%s\n", describeItem(&now.Items[i]))
	}
	if now.LeftOut > 0 {
		s.w.printf("  and %d others: meshmount status --all\n", now.LeftOut)
	}
	return s.w.err
}

// describeItem is one change on one line.
func describeItem(i *control.Item) string {
	var t strings.Builder
	fmt.Fprintf(&t, "  %-9s %6d  %s %s", i.State, i.ID, i.Op, exit.OneLine(i.Path))
	if i.To != "" {
		fmt.Fprintf(&t, " -> %s", exit.OneLine(i.To))
	}
	if i.Op == "put" {
		fmt.Fprintf(&t, ", %s", doctor.Bytes(i.Size))
	}
	if i.State == control.ItemUploading && i.Size > 0 && i.Op == "put" {
		fmt.Fprintf(&t, ", %d %% sent", i.Sent*100/i.Size)
	}
	if i.Cause != "" {
		fmt.Fprintf(&t, ": %s", exit.OneLine(i.Cause))
	}
	if i.State == control.ItemWaiting && !i.NextTry.IsZero() {
		fmt.Fprintf(&t, "; tried %d times, next at %s", i.Tries, i.NextTry.Local().Format(time.TimeOnly))
	}
	return t.String()
}
