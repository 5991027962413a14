package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/progress"
	"github.com/meshmount/meshmount/cmd/internal/serve"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/cmd/internal/unmount"
)

func (p *Program) unmountCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "unmount [flags] MOUNTPOINT",
		Aliases: []string{"umount"},
		Short:   "unmount, and wait until everything is on the servers",
		Long:    "Take the mount away and wait for its process, which stores on the servers what was written,\nup to --drain-timeout of the mount. The exit code is 0 only if nothing is left. What is left\nis kept, listed in leftovers.json in the cache directory, and uploaded by the next mount.\nIf the mount is gone already (umount, fusermount3 -u) but its process is still at work,\nwait for it. To end its wait, send it SIGTERM twice.",
		Args:    argsFor("MOUNTPOINT", 1, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	lazy := c.Flags().BoolP("lazy", "l", false, "detach a mount that is in use: it goes when nobody uses it any more")
	timeout := c.Flags().String("timeout", "", "how long to wait for the process; 0 = for ever; unless given, as long as it takes, which --drain-timeout bounds, and with --lazy 10m")
	asJSON := c.Flags().Bool("json", false, "print what is left as JSON")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		patience, err := unmountTime(*timeout, *lazy)
		if err != nil {
			return exit.New(exit.Usage, "", "command line --timeout: %w", err)
		}
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		meter := progress.New(p.Stderr)
		defer meter.Clear()
		opts := unmount.Options{Lazy: *lazy, Timeout: patience, Tell: meter.Show}
		if *asJSON {
			opts.Left = func(l pending.Left) error { return l.Encode(p.Stdout) }
		}
		return unmount.Unmount(ctx, settings.Absolute(args[0], p.Dir), opts)
	})
	return c
}

// lazyTime is how long the process of a mount is waited for that others may still use.
const lazyTime = 10 * time.Minute

// unmountTime is how long the process is waited for. It bounds what it does itself.
func unmountTime(given string, lazy bool) (time.Duration, error) {
	switch {
	case given != "":
		return settings.ParseDuration(given)
	case lazy:
		return lazyTime, nil
	}
	return 0, nil
}

func (p *Program) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor [flags] [NAME=URL...]",
		Short: "check the machine and the servers, and say what to do",
		Long:  "Check everything a mount needs: FUSE, the cache directory, and for each branch the\nserver, its certificate, what it can promise, the credentials (one attempt), clock\nand quota; for a zone also encryption and connections. Each line is OK, WARN or FAIL. Nothing is changed.",
	}
	flags := addOptions(c, "foreground")
	asJSON := c.Flags().Bool("json", false, "print the report as JSON")
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		config, err := p.resolve(flags.given, args)
		if err != nil {
			return err
		}
		dir := string(config.CacheDir)
		if dir == "" {
			if dir, err = state.CacheRoot(); err != nil {
				return err
			}
		}
		d := doctor.Doctor{Config: config, CacheDir: dir, Facts: fusecheck.Look(), Secrets: p.fetcher(config),
			Log: slog.New(slog.DiscardHandler), Agent: "meshmount/" + p.version()}
		report := d.Examine(c.Context())
		write := report.Write
		if *asJSON {
			write = report.WriteJSON
		}
		if err := write(p.Stdout); err != nil {
			return err
		}
		return report.Err()
	})
	return c
}

func (p *Program) configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config [flags] [NAME=URL...]",
		Short: "print the effective settings and where each comes from",
		Long:  "Print, as a configuration file, what \"meshmount mount\" would use with the same flags,\nenvironment and file. A comment tells where each value comes from. Secrets are not\nshown.",
	}
	flags := addOptions(c, "foreground")
	c.RunE = coded(func(_ *cobra.Command, args []string) error {
		config, err := p.resolve(flags.given, args)
		if err != nil {
			return err
		}
		if _, err := p.fitMemory(config); err != nil {
			return err
		}
		return config.Write(p.Stdout)
	})
	return c
}

func (p *Program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: argsFor("", 0, 0),
		RunE: coded(func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.Stdout, "meshmount %s (%s%s/%s)\n", p.version(), revision(), runtime.Version(), runtime.GOARCH)
			return err
		}),
	}
}

// version is what the build has set, or what the toolchain has noted.
func (p *Program) version() string {
	if p.Version != "" {
		return p.Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// buildFacts is what the toolchain has noted of the build.
func buildFacts() map[string]string {
	facts := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			facts[s.Key] = s.Value
		}
	}
	return facts
}

// revision is the commit that was built, if the toolchain has noted it.
func revision() string {
	facts := buildFacts()
	if facts["vcs.revision"] == "" {
		return ""
	}
	text := "commit " + facts["vcs.revision"]
	if facts["vcs.modified"] == "true" {
		text += " with changes"
	}
	return text + " of " + facts["vcs.time"] + ", "
}

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "print a completion script for a shell",
		Args: argsFor("the shell's name", 1, 1), ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
		RunE: coded(func(c *cobra.Command, args []string) error {
			out := c.OutOrStdout()
			scripts := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return c.Root().GenBashCompletionV2(w, true) },
				"zsh":  c.Root().GenZshCompletion,
				"fish": func(w io.Writer) error { return c.Root().GenFishCompletion(w, true) },
			}
			script, ok := scripts[args[0]]
			if !ok {
				return exit.New(exit.Usage, "choose bash, zsh or fish", "no completion for %q", args[0])
			}
			return script(out)
		}),
	}
}

// serveCommand is the process that serves a mount. It is started by "mount" only.
func (p *Program) serveCommand() *cobra.Command {
	c := &cobra.Command{Use: serve.Command + " MOUNTPOINT", Hidden: true, Args: argsFor("MOUNTPOINT", 1, 1)}
	planFD := c.Flags().Int(serve.PlanFlag, -1, "")
	readyFD := c.Flags().Int(serve.ReadyFlag, -1, "")
	c.RunE = coded(func(*cobra.Command, []string) error {
		signals := make(chan os.Signal, 8)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		defer signal.Stop(signals)
		if *planFD < 3 {
			return exit.New(exit.Usage, "run: meshmount help mount", "serve is not for people")
		}
		return p.serve(*planFD, *readyFD, signals)
	})
	return c
}

func (p *Program) serve(planFD, readyFD int, signals chan os.Signal) error {
	background := readyFD >= 0
	if background {
		unix.CloseOnExec(readyFD)
		signal.Ignore(syscall.SIGHUP)
	} else {
		signal.Notify(signals, syscall.SIGHUP)
	}
	// A reader of the log that goes away must not take the mount with it.
	signal.Ignore(syscall.SIGPIPE)
	isolate()
	tell := func(warnings []string, err error) {
		if background {
			serve.Tell(readyFD, warnings, err)
			background = false
		}
	}
	plan, err := serve.Receive(planFD)
	if err != nil {
		tell(nil, err)
		return err
	}
	if err := p.servePlan(plan, signals, func(warnings []string) { tell(warnings, nil) }); err != nil {
		tell(nil, err)
		if readyFD >= 0 {
			return exit.Told(err) // stderr is the log, which has it
		}
		return err
	}
	return nil
}

// isolate takes away what a process that lives long must not keep.
func isolate() {
	_ = os.Chdir("/") // the directory may be in the way of an unmount
	_ = syscall.Umask(0o077)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // secrets are in memory
}

// servePlan runs a mount. An error is written to the log unless that is the stderr
// on which it will be told anyway.
func (p *Program) servePlan(plan *serve.Plan, signals <-chan os.Signal, ready func(warnings []string)) error {
	out, toStderr := p.Stderr, true
	if plan.Config.Foreground && plan.Config.LogFile != "" {
		file, err := serve.OpenLog(string(plan.Config.LogFile))
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		out, toStderr = file, false
		ready = p.warn
	}
	log := serve.NewLogger(out, &plan.Config.Settings)
	r := serve.Runner{Plan: plan, Log: log, Signals: signals, Ready: ready}
	err := r.Run()
	if err == nil || plan.Config.Foreground && toStderr {
		return err
	}
	log.Error("ended", "code", int(exit.CodeOf(err)), "err", err)
	return err
}
