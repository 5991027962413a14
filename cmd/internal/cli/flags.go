package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// optionFlags are the flags of a command that stand for options. Their texts are
// collected as given; package settings reads them when the branches are known.
type optionFlags struct {
	given  []settings.Given
	kernel []string
}

// addOptions gives a command a flag for each option, and -o.
func addOptions(c *cobra.Command, skip ...string) *optionFlags {
	f := &optionFlags{}
	flags := c.Flags()
	flags.SortFlags = false
	for _, o := range settings.Options() {
		if o.Closed&settings.NotAsFlag != 0 || slices.Contains(skip, o.Name) {
			continue
		}
		flag := flags.VarPF(&optionValue{flags: f, option: o}, o.Name, o.Short, helpText(o))
		if o.IsSwitch() {
			flag.NoOptDefVal = "true"
		}
		completeOption(c, o)
	}
	flags.VarP(&mountOptionsValue{f}, "options", "o", "options as in fstab, separated by commas")
	return f
}

// helpText is the option's help with its default.
func helpText(o *settings.Option) string {
	text := o.Help
	if len(o.Choices) > 1 {
		text += " (" + strings.Join(o.Choices, "|") + ")"
	}
	if o.Default != "" && !o.IsSwitch() {
		text += " [" + o.Default
		if o.ZoneDefault != "" {
			text += "; zones: " + o.ZoneDefault
		}
		text += "]"
	}
	return text
}

// optionValue is a flag that notes what it is given.
type optionValue struct {
	flags  *optionFlags
	option *settings.Option
}

var _ pflag.Value = (*optionValue)(nil)

// String returns "": the default stands in the help text.
func (v *optionValue) String() string { return "" }

// Set notes a value.
func (v *optionValue) Set(text string) error {
	v.flags.given = append(v.flags.given, settings.Given{Option: v.option, Text: text, Where: "--" + v.option.Name})
	return nil
}

// Type returns the name of the value for help texts.
func (v *optionValue) Type() string {
	switch {
	case v.option.IsSwitch():
		return "bool" // shown without a value
	case v.option.Scope == settings.OneBranch:
		return "[BRANCH=]" + v.option.Unit
	}
	return v.option.Unit
}

// mountOptionsValue is the flag -o.
type mountOptionsValue struct{ flags *optionFlags }

// String returns "".
func (v *mountOptionsValue) String() string { return "" }

// Set notes a list of mount options.
func (v *mountOptionsValue) Set(text string) error {
	m, err := settings.ParseMountOptions(text, false)
	if err != nil {
		return err
	}
	v.flags.given = append(v.flags.given, m.Given...)
	v.flags.kernel = append(v.flags.kernel, m.Kernel...)
	return nil
}

// Type returns the name of the value for help texts.
func (v *mountOptionsValue) Type() string { return "LIST" }

// completeOption tells the shell what values an option has.
func completeOption(c *cobra.Command, o *settings.Option) {
	choose := cobra.NoFileCompletions
	switch {
	case o.Type() == "file" && o.Unit == "DIR":
		choose = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	case o.Type() == "file" || o.Unit == "FILE":
		choose = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	case len(o.Choices) > 0:
		choose = cobra.FixedCompletions(o.Choices, cobra.ShellCompDirectiveNoFileComp)
	}
	// It fails only for a flag that does not exist or was registered before.
	_ = c.RegisterFlagCompletionFunc(o.Name, choose)
}
