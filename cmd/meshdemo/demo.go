package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
)

// demo is one run: four sites, one mount, one job.
type demo struct {
	program string // meshmount
	work    string // temporary directory
	point   string // the mount point
	out     io.Writer

	sites            []site // all of them
	sciebo, cernbox  *share
	project, archive *collection
	// written are the digests of what the job must have written, by name of file.
	written map[string]string
}

// at returns the place of something in the mount.
func (d *demo) at(s site, elements ...string) string {
	return filepath.Join(d.point, s.branch(), filepath.Join(elements...))
}

// title prints the heading of a step, say what it does.
func (d *demo) title(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "\n== "+format+"\n", args...)
}

func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintln(d.out, strings.TrimRight(fmt.Sprintf("   "+format, args...), " "))
}

// show runs all steps.
func (d *demo) show(ctx context.Context) error {
	steps := []func(context.Context) error{
		d.startSites, d.mount, d.putInput, d.compute, d.check, d.cross, d.attributes, d.tree,
		d.compare, d.clients, d.change, d.compare, d.facts, d.unmount, d.restart,
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.title("Done: every file was the same through the mount and on the servers")
	return nil
}

// end makes sure that nothing is left running or mounted.
func (d *demo) end() error {
	var faults []error
	if ok, err := harness.Mounted(d.point); err == nil && ok {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := d.meshmount(ctx, "unmount", d.point); err != nil {
			faults = append(faults, err, harness.Detach(d.point))
		}
	}
	pids, err := harness.Processes(d.point)
	faults = append(faults, err)
	for _, pid := range pids {
		faults = append(faults, fmt.Errorf("process %d was still there", pid), syscall.Kill(pid, syscall.SIGKILL))
	}
	return errors.Join(append(faults, d.stopSites())...)
}

func (d *demo) stopSites() error {
	var faults []error
	for _, s := range d.sites {
		faults = append(faults, s.stop())
	}
	return errors.Join(faults...)
}

// startSites starts the servers.
func (d *demo) startSites(context.Context) error {
	d.title("Two EFSS sites and two iRODS zones (embedded servers)")
	for _, s := range d.sites {
		if err := s.start(); err != nil {
			return err
		}
		d.say("%-15s %s", s.branch(), s.about())
	}
	return nil
}

// mount runs meshmount in the background. The password of one share comes from a
// private file, that of one zone from what iinit leaves, the others' from the
// environment.
func (d *demo) mount(ctx context.Context) error {
	d.title("One mount of all four, in the background")
	if err := os.MkdirAll(d.point, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(d.passwordFile(), []byte(d.sciebo.password+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := d.project.environment(d.iCommands()); err != nil {
		return err
	}
	args := []string{"mount", "--password-file", "sciebo=" + d.passwordFile(), "--irods-checksums", d.point}
	d.say("$ meshmount %s", strings.Join(append([]string{strings.Join(args, " ")}, d.branches()...), " \\\n         "))
	args = append(args, d.branches()...)
	started := time.Now()
	if _, err := d.meshmount(ctx, args...); err != nil {
		return err
	}
	if err := mounted(d.point); err != nil {
		return fmt.Errorf("meshmount returned but %w", err)
	}
	d.say("returned after %v: the mount answers", time.Since(started).Round(time.Millisecond))
	return nil
}

// mounted returns an error if nothing is mounted on dir.
func mounted(dir string) error {
	ok, err := harness.Mounted(dir)
	if err == nil && !ok {
		err = fmt.Errorf("nothing is mounted on %s", dir)
	}
	return err
}

// passwordFile holds the password of the first share.
func (d *demo) passwordFile() string { return filepath.Join(d.work, "alice.password") }

// iCommands is what ~/.irods is to users of iCommands.
func (d *demo) iCommands() string { return filepath.Join(d.work, "irods") }

func (d *demo) branches() []string {
	var args []string
	for _, s := range d.sites {
		args = append(args, s.branch()+"="+s.url())
	}
	return args
}

// meshmount runs the program and returns its output.
func (d *demo) meshmount(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.program, args...)
	for _, kv := range harness.Environ(d.work) {
		name := strings.ToLower(kv)
		// What is set up here is somebody else's; and what is written goes as it goes by default.
		if !strings.HasPrefix(name, "irods") && !strings.HasPrefix(name, "meshmount_write=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "MESHMOUNT_PASSWORD_CERNBOX="+d.cernbox.password, "MESHMOUNT_PASSWORD_ARCHIVE="+d.archive.password,
		"IRODS_ENVIRONMENT_FILE="+filepath.Join(d.iCommands(), "irods_environment.json"))
	return d.output(cmd)
}

// output runs a command and returns what it wrote; its error holds that too.
func (d *demo) output(cmd *exec.Cmd) (string, error) {
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text.String())
	}
	return text.String(), nil
}

// quote prints a program's output, indented.
func (d *demo) quote(text string) {
	for line := range strings.Lines(text) {
		d.say("%s", strings.TrimRight(line, "\n"))
	}
}

// facts shows what the mount tells of itself.
func (d *demo) facts(ctx context.Context) error {
	d.title("What meshmount tells about the sites and a file")
	text, err := d.meshmount(ctx, append([]string{"doctor", "--password-file", "sciebo=" + d.passwordFile()}, d.branches()...)...)
	if err != nil {
		return err
	}
	d.quote(text)
	return d.xattrs(d.at(d.project, summaryFile))
}

// xattrs shows the extended attributes of a file.
func (d *demo) xattrs(file string) error {
	d.say("%s:", strings.TrimPrefix(file, d.point))
	list, err := read(func(into []byte) (int, error) { return syscall.Listxattr(file, into) })
	if err != nil {
		return fmt.Errorf("names of the extended attributes of %s: %w", file, err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		value, err := xattr(file, name)
		if err != nil {
			return err
		}
		d.say("  %-24s %s", name, strings.ReplaceAll(value, "\n", "\n                               "))
	}
	return nil
}

// xattr returns the value of an extended attribute.
func xattr(file, name string) (string, error) {
	value, err := read(func(into []byte) (int, error) { return syscall.Getxattr(file, name, into) })
	if err != nil {
		return "", fmt.Errorf("extended attribute %s of %s: %w", name, file, err)
	}
	return value, nil
}

// read returns what a call puts into a buffer.
func read(call func([]byte) (int, error)) (string, error) {
	into := make([]byte, 64<<10)
	n, err := call(into)
	return string(into[:max(n, 0)]), err
}

// unmount ends the mount and looks for leftovers.
func (d *demo) unmount(ctx context.Context) error {
	d.title("Unmount")
	d.say("$ meshmount unmount %s", d.point)
	if _, err := d.meshmount(ctx, "unmount", d.point); err != nil {
		return err
	}
	if mounted(d.point) == nil {
		return fmt.Errorf("%s is still mounted", d.point)
	}
	pids, err := harness.Processes(d.point)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("processes of the mount are still there: %v", pids)
	}
	entries, err := os.ReadDir(d.point)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("the mount point is not empty: %v", entries)
	}
	if err != nil {
		return err
	}
	d.say("nothing is mounted any more, no process is left")
	return nil
}

// restart stops the servers, starts them on the same data and reads all again
// through a new mount.
func (d *demo) restart(ctx context.Context) error {
	d.title("The servers are stopped and started again; a new mount shows the same files")
	if err := d.stopSites(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.startSites, d.mount, d.compare, d.kept, d.unmount} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
