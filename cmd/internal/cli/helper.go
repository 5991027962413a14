package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// helperCommand is the program under the name mount.meshmount, as mount(8) calls it
// for entries of fstab and for autofs: SOURCE DIRECTORY [-sfnv] [-N ns] [-t type]
// [-o options].
func (p *Program) helperCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           HelperName + " SOURCE DIRECTORY [-sfnv] [-o OPTIONS]",
		Short:         "mount branches for mount(8)",
		Long:          "SOURCE is NAME=URL, URL, or a configuration file. OPTIONS are those of fstab and the\noptions of meshmount mount, with dashes or underscores.",
		SilenceErrors: true, SilenceUsage: true,
		Args: argsFor("SOURCE or DIRECTORY", 2, 2),
	}
	flags := c.Flags()
	sloppy := flags.BoolP("sloppy", "s", false, "leave out unknown options")
	fake := flags.BoolP("fake", "f", false, "check everything, mount nothing")
	flags.BoolP("no-mtab", "n", false, "no effect")
	flags.BoolP("verbose", "v", false, "no effect")
	flags.StringP("namespace", "N", "", "no effect: mount(8) has entered it")
	flags.StringP("type", "t", "", "no effect")
	options := flags.StringArrayP("options", "o", nil, "options, separated by commas")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return exit.New(exit.Usage, "see: man meshmount", "%w", err)
	})
	c.RunE = coded(func(c *cobra.Command, args []string) error {
		m, err := settings.ParseMountOptions(strings.Join(*options, ","), *sloppy)
		if err != nil {
			return err
		}
		req := mountRequest{point: args[1], given: m.Given, kernel: m.Kernel, fake: *fake}
		req.source(args[0])
		return p.mount(c.Context(), req)
	})
	return c
}

// source adds what the first field of fstab names. It becomes the name of the mount's
// source, too: by it mount(8) recognises what is mounted already.
func (r *mountRequest) source(text string) {
	add := func(option, value string) {
		if o, ok := settings.Lookup(option); ok && !slices.ContainsFunc(r.given, func(g settings.Given) bool { return g.Option.Name == option }) {
			r.given = append(r.given, settings.Given{Option: o, Text: value, Where: "source " + settings.HideSecret(text)})
		}
	}
	before, _, isURL := strings.Cut(text, "://")
	if text == "irods:" {
		before, isURL = text, true
	}
	switch {
	case isURL && strings.Contains(before, "="):
		r.branches = []string{text}
	case isURL:
		r.branches = []string{"=" + text}
	case text != "none" && text != "meshmount":
		add("config", text)
	}
	add("fs-name", settings.HideSecret(text))
}
