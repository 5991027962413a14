package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/integration/harness"
)

// newClient makes a client for one kind of server, building its program if need be. An
// error says why it cannot be had.
func (w *world) newClient(ctx context.Context, conf config, name string, at place) (*client, error) {
	home := filepath.Join(w.dir, "clients", name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	c := &client{name: name, cache: filepath.Join(home, "cache")}
	switch {
	case name == ours:
		return c, w.setOurs(ctx, c, conf, at)
	case name == rclone && at != onZone:
		return c, w.setRclone(ctx, c, at)
	case name == davfs && at != onZone:
		return c, w.setDavfs(c, at)
	case name == irodsfs && at == onZone:
		return c, w.setIrodsfs(ctx, c)
	case name == python && at == onZone:
		return c, w.setPython(ctx, c)
	}
	return nil, errNotFor
}

// errNotFor says that a client does not speak a server's protocol.
var errNotFor = errors.New("does not speak the protocol")

func (w *world) setOurs(ctx context.Context, c *client, conf config, at place) error {
	program := conf.binary
	if program == "" {
		var err error
		if program, err = w.build(ctx, ".", "./cmd/meshmount", "meshmount"); err != nil {
			return err
		}
	}
	addr := w.sides[at].addr
	url, env := "=dav://"+addr+"/", []string(nil)
	switch at {
	case onCloud:
		url, env = "=dav://"+cloudUser+"@"+addr+cloudHome, []string{"MESHMOUNT_PASSWORD=" + cloudSecret}
	case onZone:
		url, env = "=irods://"+zoneUser+"@"+addr+zoneHome, []string{"MESHMOUNT_PASSWORD=" + zoneSecret}
	}
	c.start = func(context.Context) (*child, error) {
		args := append([]string{"mount", "-f", c.at, "--no-prompt", "--cache-dir", c.cache, "--write=" + conf.write}, ourFlags...)
		if at == onCloud {
			args = append(args, "--bulk-upload") // nobody else writes there
		}
		args = append(args, conf.flags...)
		cmd := c.command(program, append(args, url)...)
		cmd.Env = append(cmd.Env, env...)
		return launch(cmd, c.log)
	}
	return nil
}

// ourFlags believe attributes and listings for as long as those of rclone do.
var ourFlags = []string{"--attr-ttl=1m", "--dir-ttl=5m"}

// rcloneFlags tune rclone for the work, as well as it can be.
var rcloneFlags = strings.Fields(`--config /dev/null --vfs-cache-mode full --vfs-read-chunk-streams 8
	--vfs-read-chunk-size 16M --buffer-size 32M --vfs-read-ahead 128M --transfers 16 --dir-cache-time 5m
	--attr-timeout 1m --vfs-fast-fingerprint --vfs-write-back 1s --webdav-pacer-min-sleep 0s`)

func (w *world) setRclone(ctx context.Context, c *client, at place) error {
	program, err := w.build(ctx, "integration/bench/rclone", ".", "rclone")
	if err != nil {
		return err
	}
	url, login := "http://"+w.sides[at].addr+"/", []string(nil)
	if at == onCloud {
		secret, err := exec.CommandContext(ctx, program, "obscure", cloudSecret).Output()
		if err != nil {
			return fmt.Errorf("rclone obscure: %w", err)
		}
		url, login = "http://"+w.sides[at].addr+cloudHome, []string{"--webdav-vendor", "nextcloud", "--webdav-user", cloudUser,
			"--webdav-pass", strings.TrimSpace(string(secret))}
	}
	c.start = func(context.Context) (*child, error) {
		args := slices.Concat([]string{"mount", ":webdav:", c.at, "--webdav-url", url, "--cache-dir", c.cache}, login, rcloneFlags)
		return launch(c.command(program, args...), c.log)
	}
	return nil
}

// davfsConf is davfs2's configuration; with the default buffer its listings fail on new
// kernels, and with the default size of its cache it would not keep what it has read.
const davfsConf = `use_locks 0
gui_optimize 1
delay_upload 1
buf_size 256
ask_auth 0
cache_size 16384
`

func (w *world) setDavfs(c *client, at place) error {
	program, err := exec.LookPath("mount.davfs")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/mount.davfs"); err != nil {
			return errors.New("davfs2 is not installed")
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("davfs2 needs root")
	}
	conf, secrets := filepath.Join(filepath.Dir(c.cache), "davfs2.conf"), filepath.Join(filepath.Dir(c.cache), "davfs2.secrets")
	url, settings := "http://"+w.sides[at].addr+"/", davfsConf
	if at == onCloud {
		url, settings = "http://"+w.sides[at].addr+cloudHome, davfsConf+"secrets "+secrets+"\n"
	}
	c.prepare = func() error {
		return errors.Join(os.WriteFile(conf, []byte(settings+"cache_dir "+c.cache+"\n"), 0o644), lendTo("davfs2", c.cache),
			os.WriteFile(secrets, []byte(url+" "+cloudUser+" "+cloudSecret+"\n"), 0o600))
	}
	c.start = func(context.Context) (*child, error) {
		return launch(c.command(program, url, c.at, "-o", "conf="+conf), c.log)
	}
	c.daemon = func() (int, error) {
		pids, err := harness.Processes(c.at)
		if err == nil && len(pids) != 1 {
			err = fmt.Errorf("%d processes serve the mount", len(pids))
		}
		if err != nil {
			return 0, err
		}
		return pids[0], nil
	}
	return nil
}

func (w *world) setIrodsfs(ctx context.Context, c *client) error {
	program, err := w.build(ctx, "integration/irodsfs", "github.com/cyverse/irodsfs/cmd", "irodsfs")
	if err != nil {
		return err
	}
	c.start = func(context.Context) (*child, error) {
		url := "irods://" + zoneUser + ":" + zoneSecret + "@" + w.sides[onZone].addr + zoneHome
		return launch(c.command(program, "--foreground", "--data_root", c.cache, "--log_path", c.log, url, c.at), c.log)
	}
	return nil
}

// build builds a program of a module of this repository. The Go command's cache makes
// this cheap the second time.
func (w *world) build(ctx context.Context, module, pkg, name string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/meshmount/meshmount").Output()
	if err != nil {
		return "", fmt.Errorf("run this in the repository: %w", err)
	}
	bin := filepath.Join(w.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	program := filepath.Join(bin, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, pkg)
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, out)
	}
	return program, nil
}
