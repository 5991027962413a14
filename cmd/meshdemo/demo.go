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

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// demo is one run: two sites, one mount, one job.
type demo struct {
	program string // meshmount
	work    string // temporary directory
	data    string // the servers' data
	point   string // the mount point
	out     io.Writer
	sites   []*site
}

// site is one share in the tree.
type site struct {
	branch, user, password string
	server                 *efss.Running
}

// dir returns the site's place in the mount.
func (d *demo) dir(i int) string { return filepath.Join(d.point, d.sites[i].branch) }

// disk returns where the site's server keeps the user's files.
func (d *demo) disk(i int) string { return d.sites[i].server.Disk(d.sites[i].user) }

func (s *site) url() string {
	return "dav://" + s.user + "@" + strings.TrimPrefix(s.server.DAVURL(s.user), "http://")
}

// title prints the heading of a step, say what it does.
func (d *demo) title(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "\n== "+format+"\n", args...)
}

func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "   "+format+"\n", args...)
}

// show runs all steps.
func (d *demo) show(ctx context.Context) error {
	steps := []func(context.Context) error{
		d.startSites, d.mount, d.putInput, d.compute, d.tree, d.compare, d.change, d.compare,
		d.facts, d.unmount, d.restart,
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.title("Done: every file was the same through the mount and on the servers' disks")
	return nil
}

// end makes sure that nothing is left running or mounted.
func (d *demo) end() error {
	var faults []error
	if ok, err := harness.Mounted(d.point); err == nil && ok {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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
		if s.server != nil {
			faults = append(faults, s.server.Close())
			s.server = nil
		}
	}
	return errors.Join(faults...)
}

// startSites starts two servers with a user each.
func (d *demo) startSites(context.Context) error {
	if d.sites == nil {
		d.title("Two EFSS sites (embedded servers that behave as Nextcloud does)")
		d.sites = []*site{
			{branch: "sciebo", user: "alice", password: "alice-app-password"},
			{branch: "lexis/project1", user: "bob", password: "bob-app-password"},
		}
	}
	for _, s := range d.sites {
		server, err := efss.Start(efss.Options{
			Dir:   filepath.Join(d.data, filepath.Base(s.branch)),
			Users: []efss.User{{Name: s.user, Password: "login-of-" + s.user, AppPassword: s.password}},
		}, efss.StartOptions{})
		if err != nil {
			return fmt.Errorf("start of the site for %s: %w", s.branch, err)
		}
		s.server = server
		d.say("%-15s %s   data in %s", s.branch, s.url(), server.Disk(s.user))
	}
	return nil
}

// mount runs meshmount in the background. One password comes from a private file,
// the other from the environment.
func (d *demo) mount(ctx context.Context) error {
	d.title("One mount of both, in the background")
	if err := os.MkdirAll(d.point, 0o755); err != nil {
		return err
	}
	file := filepath.Join(d.work, "alice.password")
	if err := os.WriteFile(file, []byte(d.sites[0].password+"\n"), 0o600); err != nil {
		return err
	}
	args := append([]string{"mount", "--password-file", "sciebo=" + file, d.point}, d.branches()...)
	d.say("$ meshmount %s", strings.Join(args, " "))
	started := time.Now()
	if _, err := d.meshmount(ctx, args...); err != nil {
		return err
	}
	if ok, err := harness.Mounted(d.point); err != nil || !ok {
		return fmt.Errorf("meshmount returned but nothing is mounted on %s (%w)", d.point, err)
	}
	d.say("returned after %v: the mount answers", time.Since(started).Round(time.Millisecond))
	return nil
}

func (d *demo) branches() []string {
	var args []string
	for _, s := range d.sites {
		args = append(args, s.branch+"="+s.url())
	}
	return args
}

// meshmount runs the program and returns its output.
func (d *demo) meshmount(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = append(harness.Environ(d.work), "MESHMOUNT_PASSWORD_LEXIS_PROJECT1="+d.sites[1].password)
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
	text, err := d.meshmount(ctx, append([]string{"doctor"}, append(d.branches(),
		"--password-file", "sciebo="+filepath.Join(d.work, "alice.password"))...)...)
	if err != nil {
		return err
	}
	d.quote(text)
	return d.xattrs(filepath.Join(d.dir(1), "results", "summary.csv"))
}

// xattrs shows the extended attributes that meshmount gives a file.
func (d *demo) xattrs(file string) error {
	d.say("%s:", strings.TrimPrefix(file, d.point))
	for _, name := range []string{"branch", "dialect", "state", "url", "version"} {
		value := make([]byte, 4096)
		n, err := syscall.Getxattr(file, "user.meshmount."+name, value)
		if err != nil {
			return fmt.Errorf("extended attribute %s of %s: %w", name, file, err)
		}
		d.say("  user.meshmount.%-10s %s", name, value[:n])
	}
	return nil
}

// unmount ends the mount and looks for leftovers.
func (d *demo) unmount(ctx context.Context) error {
	d.title("Unmount")
	d.say("$ meshmount unmount %s", d.point)
	if _, err := d.meshmount(ctx, "unmount", d.point); err != nil {
		return err
	}
	if ok, err := harness.Mounted(d.point); err != nil || ok {
		return fmt.Errorf("%s is still mounted (%w)", d.point, err)
	}
	pids, err := harness.Processes(d.point)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("processes of the mount are still there: %v", pids)
	}
	entries, err := os.ReadDir(d.point)
	if err != nil || len(entries) > 0 {
		return fmt.Errorf("the mount point is not empty: %v (%w)", entries, err)
	}
	d.say("nothing is mounted any more, no process is left")
	return nil
}

// restart stops the servers, starts them on the same data and reads all again
// through a new mount.
func (d *demo) restart(ctx context.Context) error {
	d.title("The sites are stopped and started again; a new mount shows the same files")
	if err := d.stopSites(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.startSites, d.mount, d.compare, d.unmount} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
