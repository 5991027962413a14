package settings

import "slices"

// Options returns the table of options, group by group.
func Options() []*Option {
	return slices.Concat(
		inGroup(GroupMount, mountOptions()),
		inGroup(GroupFresh, freshnessOptions()),
		inGroup(GroupServers, serverOptions()),
		inGroup(GroupZones, zoneOptions()),
		inGroup(GroupSecrets, credentialOptions()),
		inGroup(GroupReads, readOptions()),
		inGroup(GroupWrites, writeOptions()),
		inGroup(GroupCache, cacheOptions()),
		inGroup(GroupLogging, loggingOptions()))
}

func inGroup(g Group, list []*Option) []*Option {
	for _, o := range list {
		o.Group = g
	}
	return list
}

func mountOptions() []*Option {
	return []*Option{
		{Name: "config", Unit: "FILE", Closed: NotInFile,
			Help:  "read options and branches from this TOML file",
			whole: func(s *Settings) any { return &s.ConfigFile }},
		{Name: "foreground", Short: "f", Default: "false", Closed: NotInFile | NotInEnv,
			Help:  "stay in the foreground and log to stderr",
			whole: func(s *Settings) any { return &s.Foreground }},
		{Name: "read-only", Default: "false", Scope: PerBranch,
			Help:   "refuse all changes",
			branch: func(b *Branch) any { return &b.ReadOnly }},
		{Name: "allow-other", Default: "false",
			Help:  "let other users see the mount (needs user_allow_other in /etc/fuse.conf, or root)",
			whole: func(s *Settings) any { return &s.AllowOther }},
		{Name: "nonempty", Default: "false",
			Help:  "mount over a directory that is not empty and hide what is in it",
			whole: func(s *Settings) any { return &s.NonEmpty }},
		{Name: "uid", Unit: "USER", Default: ownID,
			Help:  "owner shown for all files, as name or number; own = whoever mounts",
			whole: func(s *Settings) any { return &s.UID }},
		{Name: "gid", Unit: "GROUP", Default: ownID,
			Help:  "group shown for all files, as name or number; own = of whoever mounts",
			whole: func(s *Settings) any { return &s.GID }},
		{Name: "umask", Unit: "OCTAL", Default: "022",
			Help:  "bits taken from 0666 and 0777 for what has no mode of its own; such modes are shown and not stored",
			whole: func(s *Settings) any { return &s.Umask }},
		{Name: "fs-name", Unit: "TEXT", Default: "",
			Help:  "source shown by mount and df; empty = the URL if there is one branch, else meshmount",
			whole: func(s *Settings) any { return &s.FSName }},
	}
}

func freshnessOptions() []*Option {
	return []*Option{
		{Name: "attr-ttl", Unit: "DURATION", Default: "3s", Scope: PerBranch,
			Help:   "how long attributes of a file are believed before the server is asked again; 0 = every open sees the newest version",
			branch: func(b *Branch) any { return &b.AttrTTL }},
		{Name: "dir-ttl", Unit: "DURATION", Default: "10s", Scope: PerBranch,
			Help:   "how long a directory's listing is believed",
			branch: func(b *Branch) any { return &b.DirTTL }},
		{Name: "dir-stale", Unit: "DURATION", Default: "0s", Scope: PerBranch,
			Help:   "how much longer than dir-ttl an old listing is shown at once while a new one is fetched behind it; 0 = never",
			branch: func(b *Branch) any { return &b.DirStale }},
		{Name: "negative-ttl", Unit: "DURATION", Default: "3s", Scope: PerBranch,
			Help:   "how long it is believed that a name does not exist",
			branch: func(b *Branch) any { return &b.NegativeTTL }},
	}
}

func serverOptions() []*Option {
	return []*Option{
		{Name: "user", Unit: "NAME", Default: "", Scope: OneBranch,
			Help:   "user name, if not in the URL",
			branch: func(b *Branch) any { return &b.User }},
		{Name: "dialect", Unit: "NAME", Default: AutoDialect, Scope: PerBranch, For: Share, Choices: dialects(),
			Help:   "kind of WebDAV server; auto = found out",
			branch: func(b *Branch) any { return &b.Dialect }},
		{Name: "connect-timeout", Unit: "DURATION", Default: "15s", Scope: PerBranch,
			Help:   "how long a connection, with its TLS handshake, may take",
			branch: func(b *Branch) any { return &b.ConnectTimeout }},
		{Name: "io-timeout", Unit: "DURATION", Default: "60s", Scope: PerBranch,
			Help:   "how long a request may go without any progress; 0 = for ever",
			branch: func(b *Branch) any { return &b.IOTimeout }},
		{Name: "retry-time", Unit: "DURATION", Default: "60s", Scope: PerBranch,
			Help:   "how long failed requests are tried again; 0 = never",
			branch: func(b *Branch) any { return &b.RetryTime }},
		{Name: "max-connections", Unit: "NUMBER", Default: "64", ZoneDefault: "8", Scope: PerBranch, Min: 1,
			Help:   "requests to the server at a time, each on a connection of its own with HTTP/1 and with zones; each connection to a zone is a process and a database connection there",
			branch: func(b *Branch) any { return &b.MaxConnections }},
		{Name: "ca-file", Unit: "FILE", Default: "", Scope: PerBranch,
			Help:   "PEM file of certificate authorities to trust besides the system's",
			branch: func(b *Branch) any { return &b.CAFile }},
		{Name: "allow-plain-http", Default: "false", Scope: PerBranch, For: Share,
			Help:   "allow dav:// and http:// to hosts other than this one: passwords and data go unencrypted",
			branch: func(b *Branch) any { return &b.AllowPlainHTTP }},
	}
}

// zoneOptions are for zones alone. What iCommands have set up for the same server is
// their default, see zone.go.
func zoneOptions() []*Option {
	list := []*Option{
		{Name: "irods-zone", Unit: "NAME", Default: "", Scope: OneBranch,
			Help:   "zone of the user; empty = that of the collection",
			branch: func(b *Branch) any { return &b.Zone }},
		{Name: "irods-auth", Unit: "NAME", Default: "native", Scope: PerBranch, Choices: []string{"native", "pam"},
			Help:   "how to log in; pam needs TLS",
			branch: func(b *Branch) any { return &b.Auth }},
		{Name: "irods-tls", Unit: "WILL", Default: "request", Scope: PerBranch, Choices: []string{"request", "require", "refuse"},
			Help:   "whether to use TLS; request = if the zone agrees",
			branch: func(b *Branch) any { return &b.TLS }},
		{Name: "irods-verify", Unit: "HOW", Default: "hostname", Scope: PerBranch, Choices: []string{"hostname", "cert", "none"},
			Help:   "how far the certificate is checked: hostname = its host name and who has signed it, cert = only who",
			branch: func(b *Branch) any { return &b.Verify }},
		{Name: "irods-ca-dir", Unit: "DIR", Default: "", Scope: PerBranch,
			Help:   "directory of PEM files of certificate authorities to trust besides the system's",
			branch: func(b *Branch) any { return &b.CADir }},
		{Name: "irods-encryption", Unit: "TEXT", Default: "AES-256-CBC:32:8:16", Scope: PerBranch,
			Help:   "algorithm, sizes of key and salt in bytes, and rounds that are announced to the zone under TLS; it changes nothing here",
			branch: func(b *Branch) any { return &b.Encryption }},
		{Name: "irods-resource", Unit: "NAME", Default: "", Scope: PerBranch,
			Help:   "resource that takes new objects; empty = the zone chooses",
			branch: func(b *Branch) any { return &b.Resource }},
		{Name: "irods-trash", Default: "false", Scope: PerBranch,
			Help:   "move what is removed to the zone's trash instead of deleting it",
			branch: func(b *Branch) any { return &b.Trash }},
		{Name: "irods-checksums", Default: "false", Scope: PerBranch,
			Help:   "have the zone compute a checksum of each small file that is uploaded with others, which is compared and kept; it costs the zone more than storing the file does. Those uploaded alone always have one",
			branch: func(b *Branch) any { return &b.Checksums }},
	}
	for _, o := range list {
		o.For = Zone
	}
	return list
}

func credentialOptions() []*Option {
	list := []*Option{
		credentialOption("password-file", "FILE", Password, FromFile, "private file (0600) that holds the password"),
		credentialOption("password-command", "COMMAND", Password, FromCommand, "command for /bin/sh that prints the password"),
		credentialOption("password-env", "VARIABLE", Password, FromEnv, "environment variable that holds the password"),
		credentialOption("irods-auth-file", "FILE", Password, FromIRODS, "file in which iinit has stored the password (~/.irods/.irodsA)"),
		credentialOption("token-file", "FILE", Token, FromFile, "private file (0600) that holds a bearer token; read again when the server refuses it"),
		credentialOption("token-command", "COMMAND", Token, FromCommand, "command for /bin/sh that prints a bearer token; run again when the server refuses it"),
		credentialOption("token-env", "VARIABLE", Token, FromEnv, "environment variable that holds a bearer token"),
		credentialOption("password", "TEXT", Password, FromConfig, "the password itself, only in a configuration file that is private (0600)"),
		credentialOption("token", "TEXT", Token, FromConfig, "the bearer token itself, only in a configuration file that is private (0600)"),
	}
	return append(list,
		&Option{Name: "no-prompt", Default: "false",
			Help:  "never ask for a password on the terminal",
			whole: func(s *Settings) any { return &s.NoPrompt }},
		&Option{Name: "secret-timeout", Unit: "DURATION", Default: "60s",
			Help:  "how long a password or token command may take",
			whole: func(s *Settings) any { return &s.SecretTimeout }})
}

func credentialOption(name, unit string, kind CredentialKind, from CredentialFrom, help string) *Option {
	o := &Option{Name: name, Unit: unit, Scope: OneBranch, Help: help,
		credential: &Credential{Kind: kind, From: from}}
	switch {
	case kind == Token:
		o.For = Share
	case from == FromIRODS:
		o.For = Zone
	}
	if from == FromConfig {
		o.Closed = NotInEnv | NotAsFlag
	}
	return o
}

func loggingOptions() []*Option {
	return []*Option{
		{Name: "log-level", Unit: "LEVEL", Default: "info", Choices: []string{"debug", "info", "warn", "error"},
			Help:  "least severity that is logged",
			whole: func(s *Settings) any { return &s.LogLevel }},
		{Name: "log-format", Unit: "FORMAT", Default: "text", Choices: []string{"text", "json"},
			Help:  "form of a line of the log",
			whole: func(s *Settings) any { return &s.LogFormat }},
		{Name: "log-file", Unit: "FILE", Default: "",
			Help:  "append the log to this file; empty = meshmount.log in the cache directory, or stderr with -f",
			whole: func(s *Settings) any { return &s.LogFile }},
	}
}
