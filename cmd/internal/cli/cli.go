// Package cli is the command line of meshmount: subcommands, flags and help, all
// derived from the table of options in package settings.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// Program is one run of the command.
type Program struct {
	Args    []string // with the program's name
	Environ []string
	Dir     string // working directory
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Version string // as the build has set it; may be empty
}

// FromOS describes the present process.
func FromOS(version string) *Program {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	return &Program{Args: os.Args, Environ: os.Environ(), Dir: dir,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version}
}

// HelperName is the name under which mount(8) calls the program.
const HelperName = "mount.meshmount"

// Main runs the command and returns its exit code. An error is one line on Stderr.
func (p *Program) Main(ctx context.Context) exit.Code {
	return exit.Report(p.Stderr, p.run(ctx))
}

func (p *Program) run(ctx context.Context) error {
	name, args := "meshmount", []string(nil)
	if len(p.Args) > 0 {
		name, args = filepath.Base(p.Args[0]), p.Args[1:]
	}
	root := p.command()
	if name == HelperName {
		root = p.helperCommand()
	}
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*exit.Error](err); ok {
		return err
	}
	// What cobra itself finds fault with is the command line.
	text, _, _ := strings.Cut(err.Error(), "\n")
	return exit.New(exit.Usage, "run: meshmount help", "%s", text)
}

// command builds the tree of commands.
func (p *Program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "meshmount",
		Short:         "one directory tree over the WebDAV shares and iRODS zones of several sites",
		Long:          "meshmount mounts the shares of several EFSS sites (Nextcloud, ownCloud, OpenCloud and\nother WebDAV servers) and the collections of several iRODS zones side by side in one\ntree, without root.",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(p.mountCommand(), p.unmountCommand(), p.statusCommand(), p.flushCommand(), p.retryCommand(), p.dropCommand(),
		p.exportCommand(), p.pauseCommand(true), p.pauseCommand(false), p.refreshCommand(), p.statsCommand(), p.cacheCommand(),
		p.packCommand(), p.unpackCommand(), p.doctorCommand(), p.configCommand(),
		p.versionCommand(), completionCommand(), p.manCommand(), p.serveCommand())
	root.SetHelpCommand(helpCommand())
	root.SetUsageFunc(usage)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exit.New(exit.Usage, helpOn(c), "%w", err)
	})
	return root
}

// helpOn is the remedy for a wrong use of a command.
func helpOn(c *cobra.Command) string {
	_, names, _ := strings.Cut(c.CommandPath(), " ")
	return "run: meshmount help " + names
}

// coded makes every error of a command an *exit.Error.
func coded(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := run(c, args)
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[*exit.Error](err); ok {
			return e
		}
		return exit.New(exit.Failed, "", "%w", err)
	}
}
