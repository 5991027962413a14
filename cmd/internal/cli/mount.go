package cli

import (
	"context"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/secret"
	"github.com/meshmount/meshmount/cmd/internal/serve"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
)

const mountLong = `Mount the branches at MOUNTPOINT, an empty directory. A branch is NAME=URL: the tree
behind URL appears as MOUNTPOINT/NAME. NAME may have slashes; without NAME (=URL) the
branch is at the root. More branches may stand in a configuration file (--config).

URL is davs://[USER@]HOST[:PORT]/PATH for a WebDAV share, or dav:// for plain HTTP;
irods://USER@HOST[:PORT]/ZONE/COLLECTION for a collection of an iRODS zone. A user of
another zone than the collection's is written USER%23ZONE@, other odd characters as %XX.
What is missing in irods:///ZONE/COLLECTION, or in irods: alone, comes from the
environment of iCommands (irods_environment.json, variables such as IRODS_HOST). For the
server named there its other settings are defaults, too, and for its user the password
that iinit has stored.

The command returns when the mount answers, and leaves a process in the background;
with -f it stays in the foreground. SIGTERM or "meshmount unmount" ends the mount.

An option that is about branches can be given for one of them as NAME=VALUE
(--io-timeout home=2m, --read-only=home=true). Each option is also a key of the
configuration file and, with capitals and underscores, a variable: MESHMOUNT_IO_TIMEOUT.
A flag wins over the variable, that over the file, that over the default.

A password or token comes from a private file, a command, a variable, or the
configuration file; the variables MESHMOUNT_PASSWORD_NAME and MESHMOUNT_TOKEN_NAME
(NAME in capitals, other characters as "_"; without _NAME for =URL) are used without
being asked for; the terminal is the last resort. They are never taken from arguments
or URLs, which everybody on the machine can see.

Durations are written 90s, 5m or 1h30m; a bare number is seconds. Sizes are written
512KiB, 64MiB or 10GiB; a bare number is bytes.`

const mountExample = `  meshmount mount ~/mesh sciebo=davs://ada@uni.sciebo.de/remote.php/dav/files/ada
  meshmount mount ~/mesh zone=irods://ada@data.example.org/lexis/home/ada home=irods:
  meshmount mount --config ~/.config/meshmount.toml ~/mesh
  meshmount mount -f --read-only --password-file a=~/.a --password-file b=~/.b ~/mesh \
      a=davs://ada@cloud.example.org/remote.php/dav/files/ada b=davs://ada@box.example.net/dav`

func (p *Program) mountCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "mount [flags] MOUNTPOINT [NAME=URL...]",
		Short:   "mount branches at a directory",
		Long:    mountLong,
		Example: mountExample,
		Args:    argsFor("MOUNTPOINT", 1, -1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags := addOptions(c)
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		return p.mount(c.Context(), mountRequest{point: args[0], branches: args[1:], given: flags.given, kernel: flags.kernel})
	})
	return c
}

// argsFor checks the number of arguments and names the one that is missing.
func argsFor(name string, least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		remedy := helpOn(c)
		if len(args) < least {
			return exit.New(exit.Usage, remedy, "%s: %s is missing", c.Name(), name)
		}
		if most >= 0 && len(args) > most {
			return exit.New(exit.Usage, remedy, "%s: surplus argument %q", c.Name(), settings.HideSecret(args[most]))
		}
		return nil
	}
}

// mountRequest is what "mount" and mount.meshmount ask for.
type mountRequest struct {
	point    string
	branches []string
	given    []settings.Given
	kernel   []string
	fake     bool // check everything, mount nothing
}

// mount checks everything that can be checked without a server, fetches secrets, and
// hands over to the process that serves the mount.
func (p *Program) mount(ctx context.Context, req mountRequest) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	config, err := p.resolve(req.given, req.branches)
	if err != nil {
		return err
	}
	if len(config.Branches) == 0 {
		return exit.New(exit.Usage, "write NAME=URL, or use --config", "there is no branch to mount")
	}
	plan := &serve.Plan{Config: *config, Kernel: req.kernel, Version: p.version()}
	if err := p.prepare(plan, settings.Absolute(req.point, p.Dir)); err != nil {
		return err
	}
	if plan.Memory, err = p.fitMemory(&plan.Config); err != nil {
		return err
	}
	if req.fake {
		return nil
	}
	if plan.Secrets, err = p.fetch(ctx, config); err != nil {
		return err
	}
	if config.Foreground {
		return serve.Foreground(plan, p.Environ)
	}
	warnings, err := serve.Background(ctx, plan, p.Environ)
	p.warn(warnings)
	return err
}

// warn prints what is not as it should be, a line each.
func (p *Program) warn(warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(p.Stderr, "meshmount: warning:", w)
	}
}

func (p *Program) resolve(given []settings.Given, branches []string) (*settings.Config, error) {
	return settings.Resolve(settings.Input{Flags: given, Branches: branches, Environ: p.Environ, Dir: p.Dir})
}

// prepare checks mount point, FUSE and cache directory.
func (p *Program) prepare(plan *serve.Plan, point string) error {
	var err error
	config := &plan.Config
	if plan.Point, err = state.CheckPoint(point, config.NonEmpty); err != nil {
		return err
	}
	if !state.PassedFD(plan.Point) {
		facts := fusecheck.Look()
		if err := facts.Fault(); err != nil {
			return err
		}
	} else if !config.Foreground {
		return exit.New(exit.Usage, "use -f", "a mount on %s must stay in the foreground", plan.Point)
	}
	if plan.CacheDir, err = cacheDir(config, plan.Point); err != nil {
		return err
	}
	for _, inside := range []string{plan.CacheDir, string(config.LogFile)} {
		if inside != "" && remote.Within(inside, plan.Point) {
			return exit.New(exit.CacheBad, "choose a place outside", "%s lies within the mount point %s", inside, plan.Point)
		}
	}
	err = state.Private(plan.CacheDir)
	if err == nil || config.CacheDir != "" || !readOnly(config) {
		return err
	}
	// Nothing will be written that could be lost: a place that does not last will do.
	instead, tempErr := state.Temporary(plan.CacheDir)
	if tempErr != nil {
		return err
	}
	p.warn([]string{err.Error() + "; using " + instead})
	plan.CacheDir = instead
	return nil
}

// readOnly tells whether no branch takes changes.
func readOnly(config *settings.Config) bool {
	return !slices.ContainsFunc(config.Branches, func(b settings.Branch) bool { return !b.ReadOnly })
}

// fitMemory shares out the process's memory under the limit of the control group, in which
// the serving process will be, too, and fits the options into that.
func (p *Program) fitMemory(config *settings.Config) (assemble.Memory, error) {
	limit, err := prefetch.CgroupLimit(prefetch.SelfCgroup, prefetch.CgroupRoot)
	if err != nil {
		p.warn([]string{"the memory limit of the control group is not known: " + exit.OneLine(err.Error())})
	}
	return assemble.FitMemory(config, limit)
}

// cacheDir returns the directory that was given, or the one for this combination of
// mount point and branches.
func cacheDir(config *settings.Config, point string) (string, error) {
	if config.CacheDir != "" {
		return string(config.CacheDir), nil
	}
	var ids []string
	for _, b := range config.Branches {
		ids = append(ids, strings.Join([]string{b.Name, b.URL, irods.FullUser(b.User, b.Zone)}, "\x01"))
	}
	return state.DefaultCacheDir(point, ids)
}

// fetch gets the secrets of all branches, one after the other.
func (p *Program) fetch(ctx context.Context, config *settings.Config) (serve.Secrets, error) {
	fetcher := p.fetcher(config)
	secrets := serve.Secrets{}
	for i := range config.Branches {
		b := &config.Branches[i]
		s, err := fetcher.Fetch(ctx, b)
		if err != nil {
			return nil, err
		}
		secrets[b.Name] = s
	}
	return secrets, nil
}

func (p *Program) fetcher(config *settings.Config) *secret.Fetcher {
	f := &secret.Fetcher{Environ: p.Environ, Hide: config.SecretVars, Stdin: p.Stdin, Timeout: config.SecretTimeout}
	if !config.NoPrompt {
		f.Prompt = secret.Terminal()
	}
	return f
}
