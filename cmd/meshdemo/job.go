package main

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed job/heat.c
var heatC []byte

//go:embed job/heat.awk
var heatAwk []byte

// plates are the inputs of the job: name and start temperature at a place of the
// plate, both coordinates between 0 and 1.
func plates() map[string]func(x, y float64) float64 {
	return map[string]func(x, y float64) float64{
		"edge":   func(x, _ float64) float64 { return 100 * max(0, 1-20*x) },
		"spot":   func(x, y float64) float64 { return 100 * math.Exp(-50*((x-.5)*(x-.5)+(y-.4)*(y-.4))) },
		"waves":  func(x, y float64) float64 { return 50 + 50*math.Sin(9*x)*math.Cos(7*y) },
		"ramp":   func(x, y float64) float64 { return 100 * (x + y) / 2 },
		"checks": func(x, y float64) float64 { return 100 * float64((int(x*8)+int(y*8))%2) },
	}
}

const (
	plateSize     = 96
	plateSteps    = 400
	platePictures = 8
)

// putInput writes the program's source and its inputs to the first share, through
// the mount.
func (d *demo) putInput(context.Context) error {
	d.title("Input for a job, written to %s through the mount", d.sites[0].branch)
	// What an earlier run has left, with --keep.
	if err := os.RemoveAll(filepath.Join(d.dir(1), "results")); err != nil {
		return err
	}
	source, input := filepath.Join(d.dir(0), "source"), filepath.Join(d.dir(0), "input")
	for _, dir := range []string{source, input, filepath.Join(d.dir(1), "bin"), filepath.Join(d.dir(1), "results")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	files := map[string][]byte{filepath.Join(source, "heat.c"): heatC, filepath.Join(source, "heat.awk"): heatAwk}
	for name, at := range plates() {
		files[filepath.Join(input, name+".txt")] = plate(at)
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	d.say("%d files: a program that solves the heat equation, and %d start temperatures", len(files), len(plates()))
	return nil
}

// plate returns one input file.
func plate(at func(x, y float64) float64) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d 0.2 %d %d\n", plateSize, plateSize, plateSteps, platePictures)
	for i := range plateSize {
		for j := range plateSize {
			fmt.Fprintf(&b, "%.3f ", at(float64(j)/(plateSize-1), float64(i)/(plateSize-1)))
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// compute compiles the program from the first share into the second and runs it:
// it reads from the first and writes to the second.
func (d *demo) compute(ctx context.Context) error {
	d.title("The job: reads from %s, writes to %s", d.sites[0].branch, d.sites[1].branch)
	summary := filepath.Join(d.dir(1), "results", "summary.csv")
	if err := os.WriteFile(summary, []byte("plate,rows,columns,steps,mean,max\n"), 0o644); err != nil {
		return err
	}
	heat, err := d.compile(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	for name := range plates() {
		input := filepath.Join(d.dir(0), "input", name+".txt")
		cmd := heat(input, filepath.Join(d.dir(1), "results"), summary)
		if _, err := d.output(cmd); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return err
	}
	results, err := os.ReadDir(filepath.Dir(summary))
	if err != nil {
		return err
	}
	if want := len(plates())*(platePictures+1) + 1; len(results) != want {
		return fmt.Errorf("the job wrote %d files, not %d", len(results), want)
	}
	d.say("%d plates, %d result files in %v; summary.csv:", len(plates()), len(results), time.Since(started).Round(time.Millisecond))
	d.quote(string(text))
	return nil
}

// compile returns how to run the job: compiled C if there is a compiler, else awk.
func (d *demo) compile(ctx context.Context) (func(input, dir, summary string) *exec.Cmd, error) {
	source, program := filepath.Join(d.dir(0), "source"), filepath.Join(d.dir(1), "bin", "heat")
	for _, cc := range []string{"cc", "gcc"} {
		if _, err := exec.LookPath(cc); err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, cc, "-O2", "-o", program, filepath.Join(source, "heat.c"))
		d.say("$ %s", strings.ReplaceAll(strings.Join(cmd.Args, " "), d.point, "mnt"))
		if _, err := d.output(cmd); err != nil {
			return nil, err
		}
		return func(input, dir, summary string) *exec.Cmd {
			// By way of env: while this process forks, all of it may stand still, its
			// servers too, until the new program has been read from the mount.
			return exec.CommandContext(ctx, "env", program, input, dir, summary)
		}, nil
	}
	d.say("there is no C compiler; awk does the work")
	return func(input, dir, summary string) *exec.Cmd {
		return exec.CommandContext(ctx, "awk", "-v", "dir="+dir, "-v", "summary="+summary,
			"-f", filepath.Join(source, "heat.awk"), input)
	}, nil
}

// tree lists the mount, long directories shortened.
func (d *demo) tree(context.Context) error {
	d.title("The tree")
	return d.list(d.point, "")
}

// list prints a directory and what is below it.
func (d *demo) list(dir, indent string) error {
	const shown = 5
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	files := 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() {
			d.say("%s%s/", indent, e.Name())
			if err := d.list(filepath.Join(dir, e.Name()), indent+"   "); err != nil {
				return err
			}
			continue
		}
		if files++; files <= shown {
			d.say("%s%-16s %7d bytes  %v", indent, e.Name(), info.Size(), info.Mode())
		}
	}
	if files > shown {
		d.say("%s... and %d files more", indent, files-shown)
	}
	return nil
}
