// Package settings turns the command line, the environment and a configuration
// file into the effective settings of a mount, and remembers where each came from.
//
// Options is the one table of options. Flags, configuration keys, variables
// (MESHMOUNT_ and the name in capitals), mount options, help, man pages and the
// README's table derive from it. Of several values for one option the flag wins
// over the environment, that over the configuration file, that over what iCommands have
// set up (for zones on the same server, see zone.go), that over the default;
// within one of these the value for one branch wins over the value for all.
//
// A value given for one branch is written NAME=VALUE on the command line and
// stands in the table [branch.NAME] of the file. Whatever could send a secret to
// the wrong server is refused: a credential without a branch's name when there are
// several branches, and a variable that fits two branches.
//
// Everything here works on text and files alone: no network, no terminal, no
// process-wide state.
package settings
