package settings

import (
	"fmt"
	"io"
	"strings"
)

// Write prints the effective configuration as a TOML file with the origin of each
// value as a comment. Secrets are not shown, only where they come from.
func (c *Config) Write(w io.Writer) error {
	p := printer{w: w}
	for _, o := range Options() {
		if o.Scope == Whole && o.Closed&NotInFile == 0 {
			p.line(o, o.whole(&c.Settings), c.Origins[o.Name])
		}
	}
	for i := range c.Branches {
		c.writeBranch(&p, &c.Branches[i])
	}
	for _, name := range c.Unused {
		p.printf("# variable %s is set and means nothing\n", strings.ToValidUTF8(name, "?"))
	}
	return p.err
}

func (c *Config) writeBranch(p *printer, b *Branch) {
	p.printf("\n[branch.%s]\n", quoteKey(b.Name))
	p.printf("%s = %s  # %s\n", urlKey, quoteText(b.URL), comment(c.OriginOf(b.Name, urlKey)))
	for _, o := range Options() {
		if o.branch != nil && (o.For == AnyKind || o.For == b.Kind()) {
			p.line(o, o.branch(b), c.OriginOf(b.Name, o.Name))
		}
	}
	p.credential(&b.Credential, c.OriginOf(b.Name, "credential"))
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) line(o *Option, ptr any, origin Origin) {
	value := text(ptr)
	if kind := o.Type(); kind != "switch" && kind != "number" {
		value = quoteText(value)
	}
	p.printf("%s = %s  # %s\n", o.Name, value, comment(origin))
}

func (p *printer) credential(c *Credential, origin Origin) {
	switch c.From {
	case FromConfig:
		p.printf("# %s is set, not shown  # %s\n", c.Kind, comment(origin))
	case FromPrompt:
		p.printf("# %s: asked for on the terminal\n", c.Kind)
	case FromNowhere:
		p.printf("# no credentials: anonymous\n")
	default:
		p.printf("%s = %s  # %s\n", c.optionName(), quoteText(c.Arg), comment(origin))
	}
}

// optionName returns the name of the option that gives this kind of credential.
func (c *Credential) optionName() string {
	for _, o := range Options() {
		if o.credential != nil && o.credential.Kind == c.Kind && o.credential.From == c.From {
			return o.Name
		}
	}
	return string(c.Kind)
}

// comment keeps an origin, which may hold a file's name, on its line.
func comment(o Origin) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(o.String(), "?"))
}
