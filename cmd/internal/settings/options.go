package settings

import (
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Settings are about the mount as a whole.
type Settings struct {
	ConfigFile      Path
	Foreground      bool
	AllowOther      bool
	NonEmpty        bool
	FSName          string
	UID             UserID
	GID             GroupID
	Umask           Octal
	Write           string // "back", "through"
	Fsync           string // "local", "remote"
	StagingSize     Size
	StagingReserve  Size
	UploadLimit     Size   // bytes/s, 0 for none
	DownloadLimit   Size   // bytes/s, 0 for none
	Cache           string // "on", "off"
	CacheDir        Path
	CacheSize       Size
	CacheReserve    Size
	BlockSize       Size
	Memory          Size
	KernelReadAhead Size
	DirectIO        string // "never", "auto", "always"
	DrainTimeout    time.Duration
	NoPrompt        bool
	SecretTimeout   time.Duration
	LogLevel        string
	LogFormat       string
	LogFile         Path
}

// Branch is one tree of the mount and how to reach it.
type Branch struct {
	Name           string // slash-separated place in the mount, "" for its root
	URL            string // without user and password
	User           string
	ReadOnly       bool
	Dialect        string
	AttrTTL        time.Duration
	DirTTL         time.Duration
	DirStale       time.Duration
	NegativeTTL    time.Duration
	ConnectTimeout time.Duration
	IOTimeout      time.Duration
	RetryTime      time.Duration
	MaxConnections int
	Streams        int
	MaxRequest     Size
	ReadAhead      Size
	SmallAhead     int
	BundleReads    bool
	Listings       int
	BrowseArchives bool
	UploadDelay    time.Duration
	EarlyUpload    Size
	WrittenTimes   string
	BatchFileSize  Size
	Archive        string
	BulkUpload     bool
	BatchBytes     Size
	BatchFiles     int
	BatchDelay     time.Duration
	Uploads        int
	CAFile         Path
	AllowPlainHTTP bool
	Credential     Credential

	// What follows is for zones.
	Zone       string // the user's, never empty
	Auth       string // "native", "pam"
	TLS        string // "request", "require", "refuse"
	Verify     string // "hostname", "cert", "none"
	CADir      Path
	Encryption wire.Encryption
	Resource   string
	Trash      bool
	Checksums  bool
}

// Kind is what a branch is, or what kind of branch an option is for.
type Kind uint8

// The kinds.
const (
	AnyKind Kind = iota
	Share        // a WebDAV collection
	Zone         // an iRODS collection
)

// String returns "share" or "zone".
func (k Kind) String() string { return [...]string{"branch", "share", "zone"}[k] }

// Kind tells what the branch is, by the scheme of its URL.
func (b *Branch) Kind() Kind {
	scheme, _, _ := strings.Cut(b.URL, ":")
	if strings.EqualFold(scheme, irods.URLScheme) {
		return Zone
	}
	return Share
}

// Title names the branch in messages: its name and URL.
func (b *Branch) Title() string {
	if b.Name == "" {
		return "branch = (" + b.URL + ")"
	}
	return "branch " + b.Name + " (" + b.URL + ")"
}

// Credential says where a branch's secret comes from.
type Credential struct {
	Kind CredentialKind
	From CredentialFrom
	Arg  string // file, command line or name of the variable
	// literal is the secret itself, when it stands in the configuration file.
	literal remote.Secret
}

// Literal returns the secret that stands in the configuration file itself.
func (c *Credential) Literal() remote.Secret { return c.literal }

// CredentialKind is how a secret is used: as a password or as a bearer token.
type CredentialKind string

// The kinds of credentials. The zero value is anonymous access.
const (
	Anonymous CredentialKind = ""
	Password  CredentialKind = "password"
	Token     CredentialKind = "token"
)

// CredentialFrom is the kind of place a secret comes from.
type CredentialFrom string

// The places. FromPrompt is what remains for a user without any other.
const (
	FromNowhere CredentialFrom = ""
	FromFile    CredentialFrom = "file"
	FromCommand CredentialFrom = "command"
	FromEnv     CredentialFrom = "env"
	FromConfig  CredentialFrom = "config"
	FromIRODS   CredentialFrom = "iinit" // the password file of iCommands
	FromPrompt  CredentialFrom = "prompt"
)

// Scope says for how many branches a value of an option can be.
type Scope uint8

// The scopes.
const (
	Whole     Scope = iota // the mount as a whole
	PerBranch              // all branches, or one by NAME=VALUE
	OneBranch              // one branch; its name may be left out if there is only one
)

// Where is a set of places in which an option cannot be given.
type Where uint8

// Places that can be closed to an option.
const (
	NotInFile Where = 1 << iota
	NotInEnv
	NotAsFlag
)

// Group is a heading of the help text.
type Group string

// The groups in the order in which help shows them.
const (
	GroupMount   Group = "Mount"
	GroupFresh   Group = "Freshness"
	GroupServers Group = "Servers"
	GroupZones   Group = "iRODS zones"
	GroupSecrets Group = "Credentials"
	GroupReads   Group = "Reading ahead"
	GroupWrites  Group = "Writing"
	GroupCache   Group = "Cache"
	GroupLogging Group = "Logging"
)

// Groups returns the groups in order.
func Groups() []Group {
	return []Group{GroupMount, GroupFresh, GroupServers, GroupZones, GroupSecrets, GroupReads, GroupWrites, GroupCache, GroupLogging}
}

// Option is one line of the table of options.
type Option struct {
	Name    string // of the flag and the key
	Short   string // one-letter flag, if any
	Unit    string // stands for the value in help; "" for a switch
	Default string
	// ZoneDefault is the default for zones, if it is another one.
	ZoneDefault string
	Help        string
	Group       Group
	Scope       Scope
	For         Kind // what kind of branch it is for
	Closed      Where
	Choices     []string // the only values, if not empty
	Min         int      // least value of a number
	// Least and Most bound a size; Most 0 is no bound. ZeroToo allows 0 besides.
	Least, Most Size
	ZeroToo     bool
	PowerOfTwo  bool // a size must be one

	whole      func(*Settings) any
	branch     func(*Branch) any
	credential *Credential // what a value of this option means, less its Arg
}

// Env returns the name of the option's environment variable.
func (o *Option) Env() string { return EnvPrefix + EnvName(o.Name) }

// EnvPrefix begins the names of all environment variables.
const EnvPrefix = "MESHMOUNT_"

// EnvName returns s in capitals, with "_" for everything that is no ASCII letter or digit.
func EnvName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// Lookup finds an option by its name; underscores count as dashes.
func Lookup(name string) (*Option, bool) {
	name = strings.ReplaceAll(name, "_", "-")
	for _, o := range Options() {
		if o.Name == name {
			return o, true
		}
	}
	return nil, false
}
