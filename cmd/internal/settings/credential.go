package settings

import (
	"slices"
	"strings"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// SecretVar returns the name of the variable that may hold a branch's secret:
// MESHMOUNT_PASSWORD_HOME for the branch "home", MESHMOUNT_PASSWORD for "".
func SecretVar(kind CredentialKind, branch string) string {
	name := EnvPrefix + EnvName(string(kind))
	if branch != "" {
		name += "_" + EnvName(branch)
	}
	return name
}

// credentials decides for each branch where its secret comes from.
func (r *resolver) credentials() error {
	for i := range r.config.Branches {
		b := &r.config.Branches[i]
		candidates, err := r.credentialsOf(b)
		if err != nil {
			return err
		}
		winner, err := strongest(b, candidates)
		if err != nil {
			return err
		}
		b.Credential = winner.credential()
		r.config.Origins[b.Name+"=credential"] = winner.origin
		if b.Credential.Kind == Anonymous && b.User != "" && !b.anonymous() {
			b.Credential = Credential{Kind: Password, From: FromPrompt}
		}
		if b.Credential.Kind == Password && b.User == "" {
			return exit.New(exit.SecretMissing, "write davs://USER@HOST/PATH, or use --user", "%s has a password but no user", b.Title())
		}
	}
	r.config.SecretVars = r.secretVars()
	return nil
}

// anonymous tells whether the branch's user is the one of a zone that needs no password.
func (b *Branch) anonymous() bool { return b.Kind() == Zone && b.User == wire.Anonymous }

// credential returns what the value means.
func (v *value) credential() Credential {
	if v.option == nil {
		return Credential{}
	}
	c := *v.option.credential
	if c.From == FromConfig {
		c.literal = remote.NewSecret(v.text)
	} else {
		c.Arg = v.text
	}
	return c
}

// credentialsOf lists what was given for b, weakest level first.
func (r *resolver) credentialsOf(b *Branch) ([]value, error) {
	var list []value
	for _, v := range r.values {
		if v.option.credential == nil {
			continue
		}
		if err := r.unnamed(v); err != nil {
			return nil, err
		}
		if fits, err := v.fits(b); err != nil || !fits {
			if err != nil {
				return nil, err
			}
			continue
		}
		if v.text == "" {
			return nil, v.fault(errEmpty)
		}
		if err := v.prepare(); err != nil {
			return nil, v.fault(err)
		}
		list = append(list, v)
	}
	direct, err := r.secretFromEnv(b)
	if err != nil {
		return nil, err
	}
	list = append(list, direct...)
	slices.SortStableFunc(list, func(x, y value) int { return x.rank() - y.rank() })
	return list, nil
}

// rank orders credentials: the level counts first, then that a branch was named.
func (v *value) rank() int {
	rank := 2 * int(v.origin.Level)
	if v.branch != nil {
		rank++
	}
	return rank
}

// prepare makes the name of a file absolute.
func (v *value) prepare() error {
	if from := v.option.credential.From; from != FromFile && from != FromIRODS {
		return nil
	}
	path, err := parsePath(v.text, v.dir)
	v.text = string(path)
	return err
}

// secretFromEnv finds MESHMOUNT_PASSWORD_<NAME> and MESHMOUNT_TOKEN_<NAME>.
func (r *resolver) secretFromEnv(b *Branch) ([]value, error) {
	var list []value
	for _, kind := range []CredentialKind{Password, Token} {
		name := SecretVar(kind, b.Name)
		if _, ok := r.env[name]; !ok {
			continue
		}
		for _, other := range r.config.Branches {
			if other.Name != b.Name && SecretVar(kind, other.Name) == name {
				return nil, exit.New(exit.Config, "rename one of them, or use "+string(kind)+"-file",
					"variable %s fits both branch %q and branch %q", name, b.Name, other.Name)
			}
		}
		o, _ := Lookup(string(kind) + "-env")
		v := value{option: o, text: name, branch: &b.Name, origin: Origin{ByEnv, name}}
		if _, err := v.fits(b); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// strongest returns the credential of the highest rank; two of one rank are an error
// unless the later one merely repeats the option.
func strongest(b *Branch, list []value) (value, error) {
	if len(list) == 0 {
		return value{}, nil
	}
	best := list[len(list)-1]
	for _, v := range list {
		if v.rank() == best.rank() && v.option.Name != best.option.Name {
			return value{}, exit.New(best.code(), "give only one", "%s: both %s (%s) and %s (%s) are given",
				b.Title(), v.option.Name, v.origin, best.option.Name, best.origin)
		}
	}
	return best, nil
}

// secretVars lists all variables that may hold a secret: whatever begins like one of
// ours and is no option, and what password-env and token-env name.
func (r *resolver) secretVars() []string {
	var list []string
	for name := range r.env {
		for _, kind := range []CredentialKind{Password, Token} {
			prefix := SecretVar(kind, "")
			if (name == prefix || strings.HasPrefix(name, prefix+"_")) && !isOptionVar(name) {
				list = append(list, name)
			}
		}
	}
	for _, v := range r.values {
		if c := v.option.credential; c != nil && c.From == FromEnv {
			list = append(list, v.text)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func isOptionVar(name string) bool {
	return slices.ContainsFunc(Options(), func(o *Option) bool { return o.Closed&NotInEnv == 0 && o.Env() == name })
}
