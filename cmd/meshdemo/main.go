// Command meshdemo shows meshmount at work on one machine: it starts two embedded
// EFSS sites and two embedded iRODS zones, mounts them in one tree with the real
// program, works on the tree with an ordinary C program and with cp, mv and tar,
// compares every file with what the servers have, and cleans up. Its exit code is 0
// only if all that came out right.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("binary", "bin/meshmount", "the meshmount `program` to show")
	keep := flag.String("keep", "", "keep the servers' data in this `directory` and start from what is there (default: a temporary directory)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	err := run(ctx, *binary, *keep)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nmeshdemo: %v\n", err)
		os.Exit(1)
	}
}

// run makes the directories, shows the demo in them and removes what is not kept.
func run(ctx context.Context, binary, keep string) error {
	program, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("no program to show: %w (\"make build\" makes it)", err)
	}
	work, err := os.MkdirTemp("", "meshdemo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	data := filepath.Join(work, "servers")
	if keep != "" {
		if data, err = filepath.Abs(keep); err != nil {
			return err
		}
	}
	d := &demo{program: program, work: work, point: filepath.Join(work, "mnt"), out: os.Stdout}
	d.newSites(data)
	err = d.show(ctx)
	if endErr := d.end(); err == nil {
		err = endErr
	}
	return err
}
