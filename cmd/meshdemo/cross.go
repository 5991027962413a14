package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	summaryFile = "results/summary.csv" // in the project's zone
	largeFile   = "results.tar"         // in the archive's zone, and a copy in the second share
)

// run runs an ordinary program on the mount and shows its command line.
func (d *demo) run(ctx context.Context, args ...string) error {
	d.say("$ %s", strings.ReplaceAll(strings.Join(args, " "), d.point, "mnt"))
	// By way of env, see compile.
	_, err := d.output(exec.CommandContext(ctx, "env", args...))
	return err
}

// cross moves and copies between shares and zones with cp, mv and tar.
func (d *demo) cross(ctx context.Context) error {
	d.title("Between shares and zones: tar, cp, mv")
	toZone, toShare := "results/ramp-0000.pgm", "results/spot-0000.pgm"
	for _, args := range [][]string{
		{"sh", "-c", "cd " + d.point + " && tar -cf archive/" + largeFile + " lexis/project1/results/* cernbox/results/*"},
		{"cp", d.at(d.archive, largeFile), d.at(d.cernbox, largeFile)},
		{"cp", "-a", d.at(d.sciebo, "source"), d.at(d.project, "source")},
		{"mv", d.at(d.cernbox, toZone), d.at(d.project, toZone)},
		{"mv", d.at(d.project, toShare), d.at(d.cernbox, toShare)},
	} {
		if err := d.run(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.moved(d.cernbox, d.project, toZone); err != nil {
		return err
	}
	if err := d.moved(d.project, d.cernbox, toShare); err != nil {
		return err
	}
	err := os.Rename(d.at(d.cernbox, largeFile), d.at(d.project, largeFile))
	if !errors.Is(err, syscall.EXDEV) {
		return fmt.Errorf("rename(2) from a share to a zone: %v, not EXDEV", err)
	}
	d.say("rename(2) itself says EXDEV there, so that mv copies")
	return errors.Join(d.copied(), d.tarred(ctx))
}

// moved checks that a file has left its branch and is whole in the other.
func (d *demo) moved(from, to site, path string) error {
	if _, err := os.Lstat(d.at(from, path)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s/%s is still there (%v)", from.branch(), path, err)
	}
	sum, err := digest(d.at(to, path))
	if err == nil && sum != d.written[filepath.Base(path)] {
		err = fmt.Errorf("%s/%s is %s, the job wrote %s", to.branch(), path, sum, d.written[filepath.Base(path)])
	}
	return err
}

// copied checks what cp -a has kept: content, modes, and times to the second.
func (d *demo) copied() error {
	for _, name := range []string{"heat.c", "heat.awk"} {
		from, to := d.at(d.sciebo, "source", name), d.at(d.project, "source", name)
		old, err := os.Stat(from)
		if err != nil {
			return err
		}
		info, err := os.Stat(to)
		if err != nil {
			return err
		}
		if info.Mode() != old.Mode() || info.ModTime().Unix() != old.ModTime().Unix() {
			return fmt.Errorf("%s has mode %v and time %v, its copy %v and %v", from, old.Mode(), old.ModTime(), info.Mode(), info.ModTime())
		}
	}
	d.say("cp -a kept modes and times")
	return nil
}

// tarred checks that the archive holds what the job wrote, and that its copy is like it.
func (d *demo) tarred(ctx context.Context) error {
	dir := filepath.Join(d.work, "unpacked")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	if _, err := d.output(exec.CommandContext(ctx, "env", "tar", "-xf", d.at(d.cernbox, largeFile), "-C", dir)); err != nil {
		return err
	}
	all, err := sums(dir)
	if err != nil {
		return err
	}
	if len(all) != len(d.written) {
		return fmt.Errorf("the archive holds %d files, the job wrote %d", len(all), len(d.written))
	}
	for path, sum := range all {
		if sum != d.written[filepath.Base(path)] {
			return fmt.Errorf("%s in the archive is %s, the job wrote %s", path, sum, d.written[filepath.Base(path)])
		}
	}
	info, err := os.Stat(d.at(d.archive, largeFile))
	if err != nil {
		return err
	}
	d.say("the copy in the share unpacks to the %d files of the job; the archive has %d bytes", len(all), info.Size())
	return nil
}

// The AVU that the demo sets: attribute, value and unit.
var diffusivity = []string{"diffusivity", "0.2", "m2/s"}

const summaryMode = 0o640

// attributes sets modes and an AVU through the mount, has the zone make a replica, and
// looks at the catalog.
func (d *demo) attributes(ctx context.Context) error {
	d.title("Permission bits, AVUs and replicas")
	summary, large := d.at(d.project, summaryFile), d.at(d.archive, largeFile)
	if err := d.run(ctx, "chmod", "0640", summary); err != nil {
		return err
	}
	name, value := "user.irods."+diffusivity[0], diffusivity[1]+"\t"+diffusivity[2]
	d.say("setxattr %s = %q", name, value)
	if err := syscall.Setxattr(summary, name, []byte(value), 0); err != nil {
		return fmt.Errorf("extended attribute of %s: %w", summary, err)
	}
	rows, err := d.project.avus(ctx, summaryFile)
	if err != nil {
		return err
	}
	for _, row := range rows {
		d.say("the catalog of %s has of %s: attribute %q, value %q, unit %q", d.project.zone, summaryFile, row[0], row[1], row[2])
	}
	if !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, diffusivity) }) {
		return fmt.Errorf("the catalog has no AVU %q", diffusivity)
	}
	if _, err := d.server(ctx, d.archive); err != nil { // it is there from now on
		return err
	}
	if err := d.archive.replicate(ctx, largeFile); err != nil {
		return err
	}
	places, err := xattr(large, "user.meshmount.locations")
	if err != nil {
		return err
	}
	for _, resource := range resources {
		if !strings.Contains(places, " "+resource+" good") {
			return fmt.Errorf("%s has its replicas on %q, not on %s", large, places, resource)
		}
	}
	d.say("the zone has made a second replica of archive/%s; user.meshmount.locations says:", largeFile)
	d.quote(places)
	return nil
}

// kept checks that a new mount shows modes and attributes that an old one has set.
func (d *demo) kept(context.Context) error {
	d.title("Permission bits and AVU are kept, too")
	summary := d.at(d.project, summaryFile)
	info, err := os.Stat(summary)
	if err != nil {
		return err
	}
	value, err := xattr(summary, "user.irods."+diffusivity[0])
	if err != nil {
		return err
	}
	d.say("%s/%s: %v, user.irods.%s = %q", d.project.name, summaryFile, info.Mode(), diffusivity[0], value)
	if info.Mode().Perm() != summaryMode || value != diffusivity[1]+"\t"+diffusivity[2] {
		return fmt.Errorf("%s has mode %v and the attribute %q", summary, info.Mode(), value)
	}
	return nil
}
