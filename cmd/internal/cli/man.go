package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

func (p *Program) manCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "man [DIRECTORY]",
		Short: "print the manual page, or write all pages to a directory",
		Long:  "Print the manual page of meshmount in the form of man(7), or write the pages of all\ncommands to DIRECTORY. With --markdown, print the tables of options, exit codes and JSON.",
		Args:  argsFor("", 0, 1),
	}
	markdown := c.Flags().Bool("markdown", false, "print the tables of options, exit codes and JSON in Markdown")
	c.RunE = coded(func(_ *cobra.Command, args []string) error {
		switch {
		case *markdown:
			return writeMarkdown(p.Stdout)
		case len(args) == 0:
			return doc.GenMan(p.manual(), p.manHeader(), p.Stdout)
		}
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return err
		}
		return doc.GenManTree(p.manual(), p.manHeader(), args[0])
	})
	return c
}

func (p *Program) manHeader() *doc.GenManHeader {
	h := &doc.GenManHeader{Section: "1", Source: "meshmount " + p.version(), Manual: "User Commands"}
	// The same build makes the same pages.
	if built, err := time.Parse(time.RFC3339, buildFacts()["vcs.time"]); err == nil {
		h.Date = &built
	}
	return h
}

// manual returns the commands with what only manual pages tell.
func (p *Program) manual() *cobra.Command {
	root := p.command()
	withoutTag(root)
	var tables strings.Builder
	writeSections(&tables)
	root.Long += "\n\n" + tables.String()
	return root
}

// withoutTag has no page of a command, or of one below it, tell the day it was made.
func withoutTag(c *cobra.Command) {
	c.DisableAutoGenTag = true
	for _, sub := range c.Commands() {
		withoutTag(sub)
	}
}

// writeSections writes the parts of meshmount(1) that belong to no single command.
func writeSections(w io.Writer) {
	_, _ = fmt.Fprint(w, `# CONFIGURATION FILE

A TOML file. Options of `+"`meshmount mount`"+` are keys by their names, without the dashes in
front; the keys password and token, which hold a secret itself, are accepted in a
private file (0600) only. A branch is a table with the key url and the options that are
for this branch alone:

    attr-ttl = "5s"

    [branch.sciebo]
    url = "davs://ada@uni.sciebo.de/remote.php/dav/files/ada"
    password-file = "~/.config/meshmount/sciebo"

    [branch."lexis/project1"]
    url = "davs://dav.example.org/project1"
    token-command = "oidc-token lexis"
    read-only = true

    [branch.zone]
    url = "irods://ada@data.example.org/lexis/home/ada"
    password-file = "~/.config/meshmount/zone"
    irods-tls = "require"

# FILES OF ICOMMANDS

A branch irods:, irods:///ZONE/COLLECTION or irods://HOST/... on the host and port of
irods_environment.json (in ~/.irods, or where IRODS_ENVIRONMENT_FILE says) takes from it
what neither URL nor options say: user, zone, collection (irods_home), the way to log in,
the policy on TLS, certificates, encryption parameters and the default resource. Variables
of the same names in capitals, such as IRODS_HOST, override the file. For the same user
the password in .irodsA (irods_authentication_file) is used, unless another is given; it
must be private (0600), and "iinit" makes it anew. "meshmount config" tells where each
value comes from.

# MEMORY

The bound of --memory is shared out: 32 MiB for the program; a quarter of the rest for what
was read ahead, and about as much again for what is on its way from the servers; a
sixteenth of the whole for pieces of blocks. What is known of directories takes up to 64
MiB besides. If the control group allows the job less than twice the bound, half of what it
allows takes its place. Requests, blocks, streams and read-ahead must fit: defaults get
smaller by themselves, and what was given and does not fit is refused.

# WRITING

With --write=back, close(2) and fsync(2) return when the file and a note of the change are on
the local disk (fsync: on stable storage), in the directory pending of the cache directory;
the upload runs behind. What was written is seen at once in this mount. It survives the end
of the process and, once synced, of the machine: the next mount with the same cache directory
goes on. A failure that may pass is tried again for ever, a failure for good parks the change.
A file that somebody else has changed meanwhile is not overwritten: ours is put beside it as
NAME.conflict-HOST-TIME. "meshmount status" tells what is not stored, "meshmount flush" waits
for it, and "meshmount unmount" too, up to --drain-timeout. What is left then is listed in
leftovers.json in the cache directory. "meshmount retry", "drop" and "export" are for what is
parked, "pause" and "resume" for when the network is needed for something else.

# CACHE

Each combination of mount point and branches has a cache directory of its own below
$XDG_CACHE_HOME/meshmount (~/.cache/meshmount), which stays when the mount is gone. Jobs
whose mount points are new each time should give --cache-dir, so that they find what the
last one has read. "meshmount cache inspect" lists what is there, "meshmount cache clear"
empties it. A cache directory is for one mount at a time.

# FSTAB

With mount.meshmount in /sbin, in /etc/fstab:

    davs://ada@uni.sciebo.de/dav /mnt/sciebo meshmount _netdev,uid=ada,password-file=/etc/meshmount/sciebo 0 0
    irods://ada@data.example.org/lexis/home/ada /mnt/zone meshmount _netdev,uid=ada,password-file=/etc/meshmount/zone 0 0
    /etc/meshmount/mesh.toml /mnt/mesh meshmount _netdev,allow_other,noauto 0 0

# EXIT STATUS

`)
	for _, row := range exit.Table() {
		_, _ = fmt.Fprintf(w, "**%d**\n: %s\n\n", row.Code, row.Meaning)
	}
}

// writeMarkdown writes the tables of options, exit codes and JSON.
func writeMarkdown(out io.Writer) error {
	w := &textWriter{w: out}
	w.printf("| flag and key | value | default | variable | effect |\n|---|---|---|---|---|\n")
	for _, o := range settings.Options() {
		name := "`--" + o.Name + "`"
		if o.Closed&settings.NotAsFlag != 0 {
			name = "`" + o.Name + "` (file only)"
		}
		if o.Scope != settings.Whole {
			name += " *"
		}
		variable := "`" + o.Env() + "`"
		if o.Closed&settings.NotInEnv != 0 {
			variable = ""
		}
		standard := cell(o.Default)
		if o.ZoneDefault != "" {
			standard += ", zones " + cell(o.ZoneDefault)
		}
		w.printf("| %s | %s | %s | %s | %s |\n", name, o.Type(), standard, variable, strings.ReplaceAll(o.Help, "|", `\|`))
	}
	w.printf("\n\\* can be given for one branch: `--NAME=BRANCH=VALUE`, or in its table of the file.\n\n")
	writeSchemas(w)
	w.printf("| exit code | meaning |\n|---|---|\n")
	for _, row := range exit.Table() {
		w.printf("| %d | %s |\n", row.Code, row.Meaning)
	}
	return w.err
}

func cell(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
