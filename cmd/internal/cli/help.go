package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// lineWidth is the width of help texts in columns.
const lineWidth = 100

// helpCommand prints help as --help does.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "help about a command",
		RunE: coded(func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return exit.New(exit.Usage, "run: meshmount help", "unknown command %q", strings.Join(args, " "))
			}
			return target.Help()
		}),
	}
}

// usage prints the synopsis, commands and flags of a command, options by group.
func usage(c *cobra.Command) error {
	w := &textWriter{w: c.OutOrStderr()}
	w.printf("Usage:\n  %s\n", synopsis(c))
	if c.HasExample() {
		w.printf("\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		w.printf("\nCommands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				w.printf("  %-12s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	for _, g := range flagGroups(c) {
		w.printf("\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(lineWidth))
	}
	if !c.HasParent() {
		w.printf("\nExit codes:\n")
		for _, row := range exit.Table() {
			w.printf("  %3d  %s\n", row.Code, row.Meaning)
		}
	}
	return w.err
}

func synopsis(c *cobra.Command) string {
	if c.HasAvailableSubCommands() {
		return c.CommandPath() + " COMMAND"
	}
	return c.UseLine()
}

type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// flagGroups sorts a command's flags under the headings of their options.
func flagGroups(c *cobra.Command) []flagGroup {
	var groups []flagGroup
	taken := map[string]bool{}
	for _, title := range settings.Groups() {
		set := newFlagSet()
		for _, o := range settings.Options() {
			if f := c.Flags().Lookup(o.Name); f != nil && o.Group == title {
				set.AddFlag(f)
				taken[o.Name] = true
			}
		}
		if set.HasFlags() {
			groups = append(groups, flagGroup{string(title), set})
		}
	}
	rest := newFlagSet()
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !taken[f.Name] {
			rest.AddFlag(f)
		}
	})
	if rest.HasFlags() {
		groups = append(groups, flagGroup{"Other flags", rest})
	}
	return groups
}

func newFlagSet() *pflag.FlagSet {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	return set
}

// textWriter keeps the first error.
type textWriter struct {
	w   io.Writer
	err error
}

func (t *textWriter) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}
