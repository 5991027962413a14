package settings

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// parseZoneURL returns the clean form of a collection's URL, and its user.
func parseZoneURL(address string) (clean, user string, err error) {
	u, err := irods.ParseURL(address)
	if err != nil {
		return "", "", err
	}
	user = irods.FullUser(u.User, u.Zone)
	u.User = ""
	if u.Root == "" {
		return "", "", errors.New("the URL names no collection; write irods://user@host/zone/home/user")
	}
	return u.String(), user, nil
}

// zones completes the URLs of zones from what iCommands have set up, and takes their
// settings for the same server as values that are weaker than all others.
func (r *resolver) zones() error {
	var list []value
	for i := range r.config.Branches {
		b := &r.config.Branches[i]
		if b.Kind() != Zone {
			continue
		}
		if err := plainText(b.URL); err != nil {
			return badURL(b, err)
		}
		u, err := irods.ParseURL(b.URL)
		if err != nil {
			return badURL(b, err)
		}
		values, err := r.fromEnvironment(b, &u)
		if err != nil {
			return err
		}
		list = append(list, values...)
		b.URL = u.String()
	}
	r.values = slices.Concat(list, r.values)
	return nil
}

// environment reads what iCommands have set up, once.
func (r *resolver) environment() (*irods.Environment, error) {
	if !r.irodsRead {
		r.irods, r.irodsErr = irods.ReadEnvironment(r.in.Environ)
		r.irodsRead = true
	}
	return r.irods, r.irodsErr
}

// fromEnvironment fills in what u lacks, and returns the settings that iCommands have
// for its server. Those for a user, the password first of all, are for that user alone.
func (r *resolver) fromEnvironment(b *Branch, u *irods.URL) ([]value, error) {
	env, err := r.environment()
	if err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		err = exit.New(exit.Config, "correct it, or name another file with IRODS_ENVIRONMENT_FILE", "branch %q: the iRODS environment: %s", b.Name, text)
	}
	switch {
	case env == nil:
		return nil, err
	case u.Host == "" && env.Host == "":
		return nil, exit.New(exit.BadURL, "write irods://USER@HOST/ZONE/COLLECTION, or run iinit",
			"branch %q (%s): the URL names no host, and there is no iRODS environment", b.Name, b.URL)
	case u.Host != "" && (u.Host != env.Host || u.Port != env.Port):
		return nil, nil
	case err != nil:
		return nil, err
	}
	u.Host, u.Port = env.Host, env.Port
	own := r.isUser(b, u, env)
	if own && u.Root == "" {
		u.Root = env.Collection
	}
	list := environmentValues(b, u, env, own)
	for i := range list {
		list[i].dir = r.in.Dir
	}
	if own {
		list = append(list, r.authFile(b, env)...)
	}
	return list, nil
}

// isUser tells whether a branch on the environment's server is for its user.
func (r *resolver) isUser(b *Branch, u *irods.URL, env *irods.Environment) bool {
	user, zone := u.User, u.Zone
	if given := r.strongest(b, "user"); given != "" {
		user, zone, _ = strings.Cut(given, "#")
	}
	if given := r.strongest(b, "irods-zone"); given != "" {
		zone = given
	}
	return (user == "" || user == env.User) && (zone == "" || zone == env.Zone)
}

// strongest returns the given value of a branch's option, "" if there is none.
func (r *resolver) strongest(b *Branch, option string) (text string) {
	for _, v := range r.values {
		if v.option.Name == option && (v.branch == nil || *v.branch == b.Name) {
			text = v.text
		}
	}
	return text
}

var (
	zoneAuths    = map[wire.Scheme]string{wire.SchemeNative: "native", wire.SchemePAM: "pam"}
	zonePolicies = map[wire.Policy]string{wire.PolicyDontCare: "request", wire.PolicyRequire: "require", wire.PolicyRefuse: "refuse"}
	zoneVerifies = map[wire.Verify]string{wire.VerifyHostname: "hostname", wire.VerifyCert: "cert", wire.VerifyNone: "none"}
)

// environmentValues turns settings of iCommands into values of options.
func environmentValues(b *Branch, u *irods.URL, env *irods.Environment, own bool) (list []value) {
	add := func(option, key, text string) {
		origin := env.Origin(key)
		if o, ok := Lookup(option); ok && text != "" && origin != "" {
			list = append(list, value{option: o, text: text, branch: &b.Name, origin: Origin{ByIRODS, origin}})
		}
	}
	add("irods-auth", irods.KeyScheme, zoneAuths[env.Scheme])
	add("irods-tls", irods.KeyPolicy, zonePolicies[env.Policy])
	add("irods-verify", irods.KeyVerify, zoneVerifies[env.Verify])
	add("ca-file", irods.KeyCAFile, env.CAFile)
	add("irods-ca-dir", irods.KeyCADir, env.CADir)
	add("irods-resource", irods.KeyResource, env.Resource)
	if e := env.Encryption; e.Algorithm != "" && e.KeySize > 0 && e.SaltSize > 0 && e.Rounds > 0 {
		add("irods-encryption", irods.KeyAlgorithm, text(&e))
	}
	if !own {
		return list
	}
	if u.User == "" {
		add("user", irods.KeyUser, env.User)
	}
	if u.Zone == "" {
		add("irods-zone", irods.KeyZone, env.Zone)
	}
	return list
}

// authFile is the file in which iinit has stored the user's password, if it has.
func (r *resolver) authFile(b *Branch, env *irods.Environment) []value {
	name := Absolute(env.AuthFile, r.in.Dir)
	if _, err := os.Stat(name); err != nil || env.AuthFile == "" || env.User == wire.Anonymous {
		return nil
	}
	o, _ := Lookup("irods-auth-file")
	return []value{{option: o, text: name, branch: &b.Name, origin: Origin{ByIRODS, name}}}
}

// completeZone takes the full name of a zone's user apart and finds the user's zone.
func (r *resolver) completeZone(b *Branch) error {
	if b.User == "" {
		return exit.New(exit.BadURL, "write irods://USER@HOST/ZONE/COLLECTION, or anonymous as USER for public data", "%s: a zone needs a user", b.Title())
	}
	name, zone, err := irods.SplitUser(b.User)
	if err != nil {
		return exit.New(exit.BadURL, "", "%s: %w", b.Title(), err)
	}
	b.User = name
	origin := r.config.OriginOf(b.Name, "irods-zone")
	switch {
	case zone == "" || zone == b.Zone:
	case origin.Level <= ByIRODS:
		b.Zone = zone
		r.config.Origins[b.Name+"=irods-zone"] = r.config.OriginOf(b.Name, "user")
	default:
		return exit.New(exit.BadURL, "give the user's zone only once", "%s: user %s#%s, but zone %s by %s", b.Title(), name, zone, b.Zone, origin)
	}
	if b.Zone == "" {
		b.Zone = irods.ZoneOf(pathOf(b.URL))
	}
	return nil
}

// pathOf returns the collection in a clean URL.
func pathOf(address string) string {
	u, err := irods.ParseURL(address)
	if err != nil {
		return ""
	}
	return u.Root
}
