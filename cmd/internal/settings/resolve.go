package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/remote/irods"
)

// Given is one option as it was given on a command line.
type Given struct {
	Option *Option
	Text   string
	Where  string // as the user wrote it, such as "--attr-ttl" or "-o attr_ttl"
}

// Input is what the user gave.
type Input struct {
	Flags    []Given  // in order; the last of a kind wins
	Branches []string // NAME=URL
	Environ  []string // as os.Environ returns it
	Dir      string   // where relative names in flags and variables start
}

// Level is a place that settings come from, in the order of precedence.
type Level uint8

// The levels, weakest first.
const (
	ByDefault Level = iota
	ByIRODS         // what iCommands have set up, for zones
	ByFile
	ByEnv
	ByFlag
)

// Origin says where a value came from.
type Origin struct {
	Level Level
	Where string // "/etc/mesh.toml:12", "MESHMOUNT_UMASK", "--umask"
}

// String describes the origin for people.
func (o Origin) String() string {
	switch o.Level {
	case ByIRODS:
		return "iRODS environment " + o.Where
	case ByFile:
		return "config " + o.Where
	case ByEnv:
		return "environment " + o.Where
	case ByFlag:
		return "command line " + o.Where
	}
	return "default"
}

// Config is the result: all settings with their origins.
type Config struct {
	Settings
	Branches []Branch
	// Origins tells where values came from: the key is the option's name for the
	// mount, and the branch's name, "=" and the option's name for a branch; "url" and
	// "credential" stand for these.
	Origins map[string]Origin
	// Unused are the names of variables that begin like ours and mean nothing.
	Unused []string
	// SecretVars are the names of variables that may hold secrets. They are to be
	// removed from the environment of every process that is started.
	SecretVars []string
}

// OriginOf returns where a branch's value came from.
func (c *Config) OriginOf(branch, option string) Origin { return c.Origins[branch+"="+option] }

// Resolve merges defaults, file, environment and command line. Errors are
// *exit.Error and name the place of the fault.
func Resolve(in Input) (*Config, error) {
	r := resolver{in: in, config: &Config{Origins: map[string]Origin{}}, env: environMap(in.Environ)}
	for _, step := range []func() error{r.readFile, r.nameBranches, r.collect, r.zones, r.apply, r.tune, r.checkURLs, r.credentials} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	r.unused()
	return r.config, nil
}

func environMap(environ []string) map[string]string {
	m := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	return m
}

// value is one candidate for an option.
type value struct {
	option *Option
	text   string
	dir    string  // where a relative name starts
	branch *string // nil: all branches, or the whole mount
	origin Origin
}

type resolver struct {
	in     Input
	env    map[string]string
	file   *file
	config *Config
	values []value // weakest first

	irods     *irods.Environment // once it has been read
	irodsErr  error
	irodsRead bool
}

// readFile finds and reads the configuration file, if there is one.
func (r *resolver) readFile() error {
	o, _ := Lookup("config")
	text, where := r.env[o.Env()], o.Env()
	for _, g := range r.in.Flags {
		if g.Option.Name == o.Name {
			text, where = g.Text, g.Where
		}
	}
	if text == "" {
		return nil
	}
	path, err := parsePath(text, r.in.Dir)
	if err != nil {
		return exit.New(exit.Usage, "", "%s: %w", where, err)
	}
	r.file, err = readFile(string(path))
	return err
}

// nameBranches lists the branches of the file and of the command line.
func (r *resolver) nameBranches() error {
	seen := map[string]string{}
	add := func(name, address string, origin Origin) error {
		if first, ok := seen[name]; ok {
			return exit.New(exit.BadURL, "give each branch a name of its own", "branch %q is given twice: %s and %s", name, first, origin)
		}
		seen[name] = origin.String()
		r.config.Branches = append(r.config.Branches, Branch{Name: name, URL: address})
		r.config.Origins[name+"="+urlKey] = origin
		return nil
	}
	if r.file != nil {
		for _, b := range r.file.branches {
			if err := add(b.name, b.url.text, r.fileOrigin(b.url.line)); err != nil {
				return err
			}
		}
	}
	for _, arg := range r.in.Branches {
		name, address, err := SplitBranch(arg)
		if err != nil {
			return err
		}
		if err := add(name, address, Origin{ByFlag, "argument"}); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) fileOrigin(line int) Origin {
	return Origin{ByFile, fmt.Sprintf("%s:%d", r.file.path, line)}
}

// collect gathers all given values, weakest first.
func (r *resolver) collect() error {
	if r.file != nil {
		r.collectFile()
	}
	for _, o := range Options() {
		if text, ok := r.env[o.Env()]; ok && o.Closed&NotInEnv == 0 {
			if err := r.ambiguous(o); err != nil {
				return err
			}
			r.values = append(r.values, value{option: o, text: text, dir: r.in.Dir, origin: Origin{ByEnv, o.Env()}})
		}
	}
	var forAll, forOne []value
	for _, g := range r.in.Flags {
		v := value{option: g.Option, text: g.Text, dir: r.in.Dir, origin: Origin{ByFlag, g.Where}}
		if name, rest, ok := strings.Cut(g.Text, "="); ok && g.Option.Scope != Whole && r.has(name) {
			v.branch, v.text = &name, rest
			forOne = append(forOne, v)
			continue
		}
		forAll = append(forAll, v)
	}
	r.values = slices.Concat(r.values, forAll, forOne)
	return nil
}

func (r *resolver) collectFile() {
	dir := r.file.dirOf()
	for _, e := range r.file.top {
		r.values = append(r.values, value{e.option, e.text, dir, nil, r.fileOrigin(e.line)})
	}
	for _, b := range r.file.branches {
		for _, e := range b.entries {
			r.values = append(r.values, value{e.option, e.text, dir, &b.name, r.fileOrigin(e.line)})
		}
	}
}

func (r *resolver) has(name string) bool {
	return slices.ContainsFunc(r.config.Branches, func(b Branch) bool { return b.Name == name })
}

// ambiguous refuses a variable such as MESHMOUNT_PASSWORD_FILE when there is a
// branch "file": it could hold a file's name or the branch's password.
func (r *resolver) ambiguous(o *Option) error {
	if o.credential == nil {
		return nil
	}
	for _, b := range r.config.Branches {
		for _, kind := range []CredentialKind{Password, Token} {
			if SecretVar(kind, b.Name) == o.Env() {
				return exit.New(exit.Config, "use "+string(kind)+"-file in the configuration, or another name for the branch",
					"variable %s could be the option %s or the %s of branch %s", o.Env(), o.Name, kind, b.Name)
			}
		}
	}
	return nil
}

// apply sets all options but credentials.
func (r *resolver) apply() error {
	for _, o := range Options() {
		if o.credential != nil {
			continue
		}
		candidates := r.defaults(o)
		for _, v := range r.values {
			if v.option.Name == o.Name {
				candidates = append(candidates, v)
			}
		}
		for _, v := range candidates {
			if err := r.set(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// defaults returns an option's default, and where that is another one for zones, these.
func (r *resolver) defaults(o *Option) []value {
	list := []value{{option: o, text: o.Default}}
	for i := range r.config.Branches {
		if b := &r.config.Branches[i]; o.ZoneDefault != "" && b.Kind() == Zone {
			list = append(list, value{option: o, text: o.ZoneDefault, branch: &b.Name})
		}
	}
	return list
}

// set stores a value in all places it is for.
func (r *resolver) set(v value) error {
	if v.option.Scope == Whole {
		r.config.Origins[v.option.Name] = v.origin
		return v.fault(v.option.parse(v.option.whole(&r.config.Settings), v.text, v.dir))
	}
	if err := r.unnamed(v); err != nil {
		return err
	}
	if err := v.fault(v.option.parse(v.option.branch(&Branch{}), v.text, v.dir)); err != nil {
		return err
	}
	for i := range r.config.Branches {
		b := &r.config.Branches[i]
		if fits, err := v.fits(b); err != nil || !fits {
			if err != nil {
				return err
			}
			continue
		}
		if err := v.fault(v.option.parse(v.option.branch(b), v.text, v.dir)); err != nil {
			return err
		}
		r.config.Origins[b.Name+"="+v.option.Name] = v.origin
	}
	return nil
}

// fits tells whether a value is for b. One that is for this branch alone and not for
// branches of its kind is an error.
func (v *value) fits(b *Branch) (bool, error) {
	if v.branch != nil && *v.branch != b.Name {
		return false, nil
	}
	if v.option.For == AnyKind || v.option.For == b.Kind() {
		return true, nil
	}
	given := v.origin.Level != ByDefault && (v.branch != nil || v.option.Scope == OneBranch)
	if !given {
		return false, nil
	}
	return false, exit.New(v.code(), "take it away", "%s: %s is for a %s, and %s is a %s",
		v.origin, v.option.Name, v.option.For, b.Title(), b.Kind())
}

// unnamed refuses a value for one branch that does not say which.
func (r *resolver) unnamed(v value) error {
	if v.option.Scope != OneBranch || v.branch != nil || len(r.config.Branches) < 2 || v.origin.Level == ByDefault {
		return nil
	}
	remedy := "write --" + v.option.Name + " NAME=" + v.option.Unit
	if v.origin.Level == ByFile {
		remedy = "move it into a table [branch.NAME]"
	}
	return exit.New(v.code(), remedy, "%s: there are several branches and %s is for one", v.origin, v.option.Name)
}

func (v *value) code() exit.Code {
	if v.origin.Level == ByFlag {
		return exit.Usage
	}
	return exit.Config
}

func (v *value) fault(err error) error {
	if err == nil {
		return nil
	}
	return exit.New(v.code(), "", "%s: %s: %w", v.origin, v.option.Name, err)
}

// unused lists variables that look like ours and were not used.
func (r *resolver) unused() {
	known := map[string]bool{EnvPrefix + "LONG": true}
	for _, o := range Options() {
		known[o.Env()] = o.Closed&NotInEnv == 0
	}
	for _, b := range r.config.Branches {
		known[SecretVar(Password, b.Name)], known[SecretVar(Token, b.Name)] = true, true
	}
	for name := range r.env {
		if strings.HasPrefix(name, EnvPrefix) && !known[name] {
			r.config.Unused = append(r.config.Unused, name)
		}
	}
	slices.Sort(r.config.Unused)
}

// checkURLs takes the user out of each URL and refuses what cannot be mounted.
func (r *resolver) checkURLs() error {
	for i := range r.config.Branches {
		b := &r.config.Branches[i]
		if err := r.cleanURL(b); err != nil {
			return err
		}
		if b.Kind() == Zone {
			if err := r.completeZone(b); err != nil {
				return err
			}
			continue
		}
		if err := plainAllowed(b); err != nil {
			return exit.New(exit.BadURL, "use davs://, or --allow-plain-http if you accept that passwords and data go unencrypted",
				"%s: %w", b.Title(), err)
		}
	}
	return nil
}

func badURL(b *Branch, err error) error {
	return exit.New(exit.BadURL, "", "branch %q (%s): %w", b.Name, HideSecret(b.URL), err)
}

// cleanURL moves the user from the URL to where it belongs.
func (r *resolver) cleanURL(b *Branch) error {
	clean, user, err := parseURL(b.URL)
	if err != nil {
		return badURL(b, err)
	}
	b.URL = clean
	switch {
	case user == "" || user == b.User:
	case b.User == "":
		b.User = user
		r.config.Origins[b.Name+"=user"] = r.config.OriginOf(b.Name, urlKey)
	default:
		return exit.New(exit.BadURL, "give the user only once", "%s: user %s in the URL, but %s by %s",
			b.Title(), user, b.User, r.config.OriginOf(b.Name, "user"))
	}
	return nil
}
