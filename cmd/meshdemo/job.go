package main

import (
	"context"
	_ "embed"
	"errors"
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

// plates are the inputs of the job by name: the start temperature at a place of the
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

// part is what one branch gives to the job and another gets from it.
type part struct {
	from, to site
	plates   []string
}

// parts of the job: what comes from the first share goes to a zone, what comes from the
// other zone goes to the second share.
func (d *demo) parts() []part {
	return []part{
		{d.sciebo, d.project, []string{"edge", "spot", "waves"}},
		{d.archive, d.cernbox, []string{"checks", "ramp"}},
	}
}

const (
	plateSize     = 96
	plateSteps    = 120
	platePictures = 40
)

// resultFiles is how many files the job writes: pictures and one summary.
func resultFiles() int { return len(plates())*(platePictures+1) + 1 }

// putInput writes the program's source and its inputs through the mount.
func (d *demo) putInput(context.Context) error {
	d.title("Input for a job, written through the mount to a share and a zone")
	// What an earlier run has left, with --keep.
	if err := os.RemoveAll(d.at(d.project, "source")); err != nil {
		return err
	}
	for _, dir := range []string{
		d.at(d.sciebo, "source"), d.at(d.sciebo, "input"), d.at(d.archive, "input"),
		d.at(d.cernbox, "bin"), d.at(d.cernbox, "results"), d.at(d.project, "results"),
	} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			return err
		}
	}
	source := d.at(d.sciebo, "source")
	err := errors.Join(os.WriteFile(filepath.Join(source, "heat.c"), heatC, 0o644),
		os.WriteFile(filepath.Join(source, "heat.awk"), heatAwk, 0o755))
	for _, p := range d.parts() {
		for _, name := range p.plates {
			err = errors.Join(err, os.WriteFile(d.at(p.from, "input", name+".txt"), plate(plates()[name]), 0o644))
		}
		d.say("%s: start temperatures %s", p.from.branch(), strings.Join(p.plates, ", "))
	}
	d.say("%s: a program that solves the heat equation", d.sciebo.branch())
	return err
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

// solver returns the command that reads an input and writes pictures to a directory and
// a line to a summary.
type solver func(input, dir, summary string) *exec.Cmd

// compute compiles the program from the first share into the second and runs it.
func (d *demo) compute(ctx context.Context) error {
	d.title("The job: %s to %s, %s to %s", d.sciebo.name, d.project.name, d.archive.name, d.cernbox.name)
	heat, err := d.compile(ctx)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := d.solve(heat, d.at); err != nil {
		return err
	}
	text, err := os.ReadFile(d.at(d.project, summaryFile))
	if err != nil {
		return err
	}
	d.say("%d plates, %d result files in %v; %s:", len(plates()), resultFiles(), time.Since(started).Round(time.Millisecond), summaryFile)
	d.quote(string(text))
	return d.reference(heat)
}

// solve runs the job with the branches where at puts them.
func (d *demo) solve(heat solver, at func(site, ...string) string) error {
	summary := at(d.project, summaryFile)
	if err := os.WriteFile(summary, []byte("plate,rows,columns,steps,mean,max\n"), 0o644); err != nil {
		return err
	}
	for _, p := range d.parts() {
		for _, name := range p.plates {
			if _, err := d.output(heat(at(p.from, "input", name+".txt"), at(p.to, "results"), summary)); err != nil {
				return err
			}
		}
	}
	return nil
}

// reference does the job once more on the local disk and notes what came out.
func (d *demo) reference(heat solver) error {
	local := func(s site, elements ...string) string {
		return filepath.Join(d.work, "local", s.branch(), filepath.Join(elements...))
	}
	for _, p := range d.parts() {
		if err := errors.Join(os.MkdirAll(local(p.from, "input"), 0o755), os.MkdirAll(local(p.to, "results"), 0o755)); err != nil {
			return err
		}
		for _, name := range p.plates {
			if err := os.WriteFile(local(p.from, "input", name+".txt"), plate(plates()[name]), 0o644); err != nil {
				return err
			}
		}
	}
	if err := d.solve(heat, local); err != nil {
		return err
	}
	d.written = map[string]string{}
	for _, p := range d.parts() {
		all, err := sums(local(p.to, "results"))
		if err != nil {
			return err
		}
		for name, sum := range all {
			d.written[name] = sum
		}
	}
	return nil
}

// check compares what the servers have of the results with those of the local run.
func (d *demo) check(ctx context.Context) error {
	d.title("What the servers have of the job, compared with the same job on the local disk")
	d.say("$ meshmount flush %s", d.point)
	found := 0
	for _, p := range d.parts() {
		server, err := d.server(ctx, p.to)
		if err != nil {
			return err
		}
		here := 0
		for path, h := range server {
			name, ok := strings.CutPrefix(path, "results/")
			if !ok {
				continue
			}
			if h.hex != d.written[name] {
				return fmt.Errorf("%s/%s is %s on the server and %s on the local disk", p.to.branch(), path, h.hex, d.written[name])
			}
			here++
		}
		d.say("%s: SHA-256 of %d files is the same", p.to.branch(), here)
		found += here
	}
	if want := len(plates())*(platePictures+1) + 1; found != want || len(d.written) != want {
		return fmt.Errorf("the servers have %d files, the local disk %d, not %d", found, len(d.written), want)
	}
	return nil
}

// compile returns how to run the job: compiled C if there is a compiler, else awk.
func (d *demo) compile(ctx context.Context) (solver, error) {
	source, program := d.at(d.sciebo, "source"), d.at(d.cernbox, "bin", "heat")
	for _, cc := range []string{"cc", "gcc"} {
		if _, err := exec.LookPath(cc); err != nil {
			continue
		}
		if err := d.run(ctx, cc, "-O2", "-o", program, filepath.Join(source, "heat.c")); err != nil {
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
