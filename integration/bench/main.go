// Command bench measures meshmount beside other clients, on one machine and without a
// network: rclone mount and davfs2 on Apache's mod_dav and
// the embedded Nextcloud dialect, irodsfs and python3-irodsclient on the embedded zone.
// All of them reach their server over the emulated wide-area path of package wan, do
// the same work in turn, and have every byte that they read or wrote compared. What they
// write counts when it is on the server's own disk, or in the zone's catalog.
//
//	go run ./integration/bench [-quick] [-rows large,small] [-only ours,rclone] [-out DIR]
//
// Beside them stands the limit: what plain requests over the same path reach, or the
// local file system for what comes from a cache. The table goes to standard output;
// with -out also result.md, result.json and result.svg.
//
// Dropping the page cache, and davfs2, need root; without it the rows concerned are
// left out and said to be. A client that cannot be built or started is reported as
// missing. Each piece of work has a time limit; what was reached by then counts, marked
// as cut.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if serve := serverOf(os.Args[1:]); serve != nil {
		failOn(serve(os.Args[2:]))
		return
	}
	conf, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	failOn(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, conf)
	interrupted := ctx.Err() != nil
	stop()
	if interrupted {
		fmt.Fprintln(os.Stderr, "bench:", err)
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // whoever waits sees how it ended
		time.Sleep(time.Second)
	}
	failOn(err)
}

// failOn ends the program with a status other than 0.
func failOn(err error) {
	if err != nil {
		panic(err)
	}
}

// config is what the command line says.
type config struct {
	quick, long bool
	n           int
	rows, only  []string
	write       string // how our mount writes
	out, binary string
	flags       []string // more for our mount
	limit       time.Duration
	keep, trace bool
	size        sizes
}

func parseFlags(args []string) (config, error) {
	var c config
	var rows, only, flags string
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.BoolVar(&c.quick, "quick", false, "small sizes, under two minutes; the budgets are meant for the full ones")
	set.BoolVar(&c.long, "long", false, "also trees of 100,000 files that are read, and files created and removed in growing numbers (half an hour more), and growth for the peers")
	set.IntVar(&c.n, "n", 1, "how often each piece of work is done; the median counts")
	set.StringVar(&rows, "rows", "", "only these `rows`, by the beginnings of their names, comma-separated: "+strings.Join(groupNames(), ", "))
	set.StringVar(&only, "only", "", "only these `clients`: ours, rclone, davfs2, irodsfs, python")
	set.StringVar(&c.out, "out", "", "`directory` for result.md, result.json and result.svg")
	set.StringVar(&c.binary, "binary", "", "the meshmount `program`; built if empty")
	set.StringVar(&flags, "flags", "", "more `flags` for meshmount mount, separated by blanks")
	set.StringVar(&c.write, "write", "back", "how our mount writes, as its option --write `mode`")
	set.DurationVar(&c.limit, "limit", 90*time.Second, "longest `time` for one piece of work; some have a shorter one")
	set.BoolVar(&c.keep, "keep", false, "keep the clients' logs and say where they are")
	set.BoolVar(&c.trace, "trace", false, "say on standard error, four times a second, what crosses the path and what has been read")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("bench: unknown argument %q", set.Arg(0))
	}
	c.rows, c.only, c.flags = words(rows), words(only), strings.Fields(flags)
	c.size = fullSizes
	if c.quick {
		c.size = quickSizes
	}
	return c, checkWords(c)
}

// words splits a list at commas.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// checkWords refuses names that mean nothing.
func checkWords(c config) error {
	if c.n < 1 {
		return errors.New("bench: -n is at least 1")
	}
	for _, name := range c.only {
		if !isClient(name) {
			return fmt.Errorf("bench: there is no client %q", name)
		}
	}
	for _, name := range c.rows {
		if !isRow(name) {
			return fmt.Errorf("bench: there is no row %q", name)
		}
	}
	return nil
}

// serverOf returns the server that this program is to be, nil if it is to measure.
func serverOf(args []string) func([]string) error {
	if len(args) == 0 {
		return nil
	}
	return map[string]func([]string) error{zoneCommand: serveZone, cloudCommand: serveCloud}[args[0]]
}
