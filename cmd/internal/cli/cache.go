package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
)

const cacheLong = `Look at, check or empty block caches: what mounts keep of the files that were read. Without
MOUNTPOINT and --cache-dir all caches in the usual place are meant. A mount that is gone
can be named, too, as long as its cache is in the usual place. Files that wait to be put
to a server, or that no server took, are not part of a block cache and are not touched.`

func (p *Program) cacheCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "cache COMMAND", Short: "look at, check or empty the caches of mounts", Long: cacheLong,
		Args: argsFor("", 0, 0),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.inspectCommand(), p.verifyCommand(), p.clearCommand())
	return c
}

// cacheChoice is what a subcommand of cache is told to work on.
type cacheChoice struct {
	p      *Program
	dir    *string
	asJSON *bool
}

func (p *Program) choice(c *cobra.Command) cacheChoice {
	f := cacheChoice{p, c.Flags().String("cache-dir", "", "the directory that was given to mount with --cache-dir"), c.Flags().Bool("json", false, "print JSON")}
	_ = c.MarkFlagDirname("cache-dir") // the flag exists
	c.Args, c.ValidArgsFunction = argsFor("", 0, 1), onlyDirs
	return f
}

// dirs returns the cache directories that are meant.
func (f cacheChoice) dirs(args []string) ([]state.CacheDir, error) {
	if *f.dir != "" && len(args) > 0 {
		return nil, exit.New(exit.Usage, "leave one of them out", "there are both a mount point and --cache-dir")
	}
	if *f.dir != "" {
		dir := settings.Absolute(*f.dir, f.p.Dir)
		if _, err := os.Stat(dir); err != nil {
			return nil, exit.New(exit.CacheBad, "", "cache directory: %w", err)
		}
		return []state.CacheDir{state.LookAt(dir)}, nil
	}
	root, err := state.CacheRoot()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return state.CacheDirs(root)
	}
	return f.dirsOf(root, args[0])
}

func (f cacheChoice) dirsOf(root, arg string) ([]state.CacheDir, error) {
	point, err := state.RealPoint(settings.Absolute(arg, f.p.Dir))
	if err != nil {
		return nil, exit.New(exit.NotMounted, "", "%s: %w", arg, err)
	}
	list, err := state.CacheDirsOf(root, point)
	if err == nil && len(list) == 0 {
		return nil, exit.New(exit.NotMounted, "run: meshmount cache inspect, or use --cache-dir", "there is no cache of a mount on %s", point)
	}
	return list, err
}

// cacheReport is what is told of one cache.
type cacheReport struct {
	CacheDir   string `json:"cache_dir"`
	Mountpoint string `json:"mountpoint,omitempty"`
	PID        int    `json:"pid,omitempty"` // of the mount that uses it
	BlockSize  int    `json:"block_size,omitempty"`
	Slots      int    `json:"slots"`
	Full       int    `json:"full"`
	Empty      int    `json:"empty"`
	Broken     int    `json:"broken"`
	Listings   int    `json:"listings"`
	// BrokenListings are of Listings those that fail a check.
	BrokenListings int          `json:"broken_listings"`
	Bytes          int64        `json:"bytes"`
	DiskBytes      int64        `json:"disk_bytes"`
	Trees          []treeReport `json:"trees,omitempty"`
	Error          string       `json:"error,omitempty"`
}

// treeReport is what a cache holds of one remote tree.
type treeReport struct {
	Tree   string       `json:"tree"`
	Blocks int          `json:"blocks"`
	Bytes  int64        `json:"bytes"`
	Files  int          `json:"files"`
	Most   []fileReport `json:"largest,omitempty"`
}

// fileReport is what a cache holds of one file, in all its versions.
type fileReport struct {
	Path   string `json:"path"`
	Blocks int    `json:"blocks"`
	Bytes  int64  `json:"bytes"`
}

// newReport makes the report of a cache. files is how many files of each tree are named.
func newReport(dir state.CacheDir, r *cache.Report, files int) cacheReport {
	report := cacheReport{CacheDir: dir.Dir, Mountpoint: dir.Point, PID: dir.PID, BlockSize: r.BlockSize, Slots: r.Slots,
		Full: r.Full, Empty: r.Empty, Broken: r.Broken, Listings: r.Listings, BrokenListings: r.BrokenListings, Bytes: r.Bytes, DiskBytes: r.DiskBytes}
	trees := map[string]*treeReport{}
	for name, o := range r.Objects {
		tree := trees[name.Branch]
		if tree == nil {
			tree = &treeReport{Tree: name.Branch}
			trees[name.Branch] = tree
		}
		tree.Blocks, tree.Bytes, tree.Files = tree.Blocks+o.Blocks, tree.Bytes+o.Bytes, tree.Files+1
		tree.Most = append(tree.Most, fileReport{name.Object, o.Blocks, o.Bytes})
	}
	for _, tree := range trees {
		slices.SortFunc(tree.Most, func(a, b fileReport) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path))
		})
		tree.Most = tree.Most[:min(len(tree.Most), files)]
		report.Trees = append(report.Trees, *tree)
	}
	slices.SortFunc(report.Trees, func(a, b treeReport) int { return cmp.Compare(a.Tree, b.Tree) })
	return report
}

func (p *Program) inspectCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "inspect [flags] [MOUNTPOINT]", Short: "tell what is in a cache",
		Long: "Tell how much a cache holds of which tree. It may be in use by a mount; what changes\nmeanwhile may be missed.",
	}
	f := p.choice(c)
	files := c.Flags().Int("files", 0, "how many files of each tree to name, those with the most bytes first")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		return f.each(c, args, func(ctx context.Context, dir state.CacheDir) (cacheReport, error) {
			r, err := cache.Inspect(ctx, assemble.BlocksDir(dir.Dir))
			return newReport(dir, &r, max(*files, 0)), err
		})
	})
	return c
}

func (p *Program) verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "verify [flags] [MOUNTPOINT]", Short: "check every block of a cache",
		Long: "Read all that is in a cache and check it. No mount may be using it. What fails is never\nserved to programs, whether it was looked for or not; --repair makes room of blocks that fail.",
	}
	f := p.choice(c)
	repair := c.Flags().Bool("repair", false, "mark blocks that fail as empty")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		return f.each(c, args, func(ctx context.Context, dir state.CacheDir) (cacheReport, error) {
			r, err := cache.Verify(ctx, assemble.BlocksDir(dir.Dir), *repair)
			report := newReport(dir, &r, 0)
			if err == nil {
				err = broken(dir.Dir, &r, *repair)
			}
			return report, err
		})
	})
	return c
}

// broken is the error of what fails its checks and was not repaired. Records of
// directories cannot be.
func broken(dir string, r *cache.Report, repaired bool) error {
	switch {
	case r.Broken > 0 && !repaired:
		return exit.New(exit.CacheBroken, "run: meshmount cache verify --repair", "%d blocks and %d records of directories in %s fail their checks",
			r.Broken, r.BrokenListings, dir)
	case r.BrokenListings > 0:
		return exit.New(exit.CacheBroken, "they are not used; run: meshmount cache clear", "%d records of directories in %s fail their checks", r.BrokenListings, dir)
	}
	return nil
}

func (p *Program) clearCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "clear [flags] [MOUNTPOINT]", Short: "empty a cache",
		Long: "Delete all blocks of a cache, and what is remembered of directories with them. No mount may\nbe using it. Nothing is lost but time: it is read from the server again.",
	}
	f := p.choice(c)
	all := c.Flags().Bool("all", false, "empty all caches in the usual place")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		if named := len(args) > 0 || *f.dir != ""; named == *all {
			return exit.New(exit.Usage, "run: meshmount help cache clear", "name a mount point or a --cache-dir, or use --all")
		}
		return f.each(c, args, func(ctx context.Context, dir state.CacheDir) (cacheReport, error) {
			return clearCache(ctx, dir)
		})
	})
	return c
}

// clearCache empties a cache. The report tells what is left.
func clearCache(ctx context.Context, dir state.CacheDir) (cacheReport, error) {
	blocks := assemble.BlocksDir(dir.Dir)
	err := cache.Clear(blocks)
	if err == nil {
		err = os.RemoveAll(assemble.ArchivesDir(dir.Dir))
	}
	if err != nil {
		return newReport(dir, &cache.Report{}, 0), err
	}
	r, err := cache.Inspect(ctx, blocks)
	return newReport(dir, &r, 0), err
}

// each does something with each cache that is meant, prints the reports, and returns the
// first error as an *exit.Error.
func (f cacheChoice) each(c *cobra.Command, args []string, do func(context.Context, state.CacheDir) (cacheReport, error)) error {
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	dirs, err := f.dirs(args)
	if err != nil {
		return err
	}
	reports, first := []cacheReport{}, error(nil)
	for _, dir := range dirs {
		report, err := do(ctx, dir)
		if err := cacheFault(dir, err); err != nil {
			report.Error = err.Error()
			first = cmp.Or(first, err)
		}
		reports = append(reports, report)
		if ctx.Err() != nil {
			break
		}
	}
	if *f.asJSON {
		err = printJSON(f.p.Stdout, reports)
	} else {
		err = writeReports(&textWriter{w: f.p.Stdout}, reports)
	}
	return errors.Join(first, err)
}

// cacheFault makes an *exit.Error of an error of package cache. A cache that was never
// used is none.
func cacheFault(dir state.CacheDir, err error) error {
	if e, ok := errors.AsType[*exit.Error](err); ok {
		return e
	}
	if locked, ok := errors.AsType[*cache.LockedError](err); ok {
		remedy := "wait for it"
		if dir.PID == locked.PID && dir.Point != "" {
			remedy = "run: meshmount unmount " + dir.Point
		}
		return exit.New(exit.CacheBusy, remedy, "%w", locked)
	}
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, context.Canceled):
		return exit.New(exit.Interrupted, "", "interrupted")
	}
	return exit.New(exit.CacheBad, "", "%w", err)
}

// writeReports prints reports for people.
func writeReports(w *textWriter, reports []cacheReport) error {
	if len(reports) == 0 {
		w.printf("there are no caches\n")
	}
	for _, r := range reports {
		w.printf("%s", exit.OneLine(r.CacheDir))
		if r.Mountpoint != "" {
			w.printf(", of the mount on %s", exit.OneLine(r.Mountpoint))
		}
		if r.PID != 0 {
			w.printf(", in use by process %d", r.PID)
		}
		w.printf("\n")
		if r.Error != "" && r.Slots == 0 {
			w.printf("  %s\n", exit.OneLine(r.Error))
			continue
		}
		if r.BlockSize == 0 {
			w.printf("  nothing is cached\n")
			continue
		}
		w.printf("  %d blocks of up to %s, %s; room for %d more; %d records of directories; %d broken, %d of directories; %s on the disk\n",
			r.Full, doctor.Bytes(int64(r.BlockSize)), doctor.Bytes(r.Bytes), r.Empty, r.Listings, r.Broken, r.BrokenListings, doctor.Bytes(r.DiskBytes))
		for _, t := range r.Trees {
			w.printf("  %s: %d files, %d blocks, %s\n", exit.OneLine(t.Tree), t.Files, t.Blocks, doctor.Bytes(t.Bytes))
			for _, file := range t.Most {
				w.printf("    %s: %d blocks, %s\n", exit.OneLine(file.Path), file.Blocks, doctor.Bytes(file.Bytes))
			}
		}
	}
	return w.err
}
