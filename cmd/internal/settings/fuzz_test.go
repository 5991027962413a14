package settings

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// FuzzConfig looks for panics and for errors without a code or over several lines.
// What is accepted must survive being written and read again.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(twoBranches))
	f.Add([]byte("branch = {a = {url = 'davs://h/p'}}\n\"attr\\u002dttl\" = 3"))
	f.Add([]byte("irods-trash = true\n[branch.z]\nurl = 'irods://a%23b@h/z/c'\nirods-encryption = 'A:1:2:3'\nirods-auth-file = 'x'\n"))
	f.Add([]byte("[branch]\na.url = 'davs://h'\n[[branch.b]]\n"))
	f.Add([]byte("password = \"\"\"\nx\"\"\"\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		parsed, err := parseFile("f", src)
		if err != nil {
			if exit.CodeOf(err) == exit.Failed || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("code %d, %q", exit.CodeOf(err), err)
			}
			return
		}
		c, err := resolveFile(parsed)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := c.Write(&out); err != nil {
			t.Fatal(err)
		}
		parsed, err = parseFile("f", out.Bytes())
		if err != nil {
			t.Fatalf("%v in\n%s", err, out.Bytes())
		}
		again, err := resolveFile(parsed)
		if err != nil {
			t.Fatalf("%v in\n%s", err, out.Bytes())
		}
		for i := range again.Branches {
			again.Branches[i].Credential = c.Branches[i].Credential
		}
		if !reflect.DeepEqual(c.Settings, again.Settings) || !reflect.DeepEqual(c.Branches, again.Branches) {
			t.Errorf("wrote %+v %+v\nread %+v %+v", c.Settings, c.Branches, again.Settings, again.Branches)
		}
	})
}

// resolveFile does what Resolve does once the file has been read.
func resolveFile(parsed *file) (*Config, error) {
	r := resolver{file: parsed, config: &Config{Origins: map[string]Origin{}}}
	for _, step := range []func() error{r.nameBranches, r.collect, r.zones, r.apply, r.checkURLs, r.credentials} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r.config, nil
}

// FuzzBranch checks that what is accepted of NAME=URL is clean and stable.
func FuzzBranch(f *testing.F) {
	for _, s := range []string{"a=davs://u@h/p", "=dav://[::1]:1/", "a/b=https://h", "a=davs://u:p@h/", "x=davs://u:p/@h", "a=davs://h/%2e%2e/", "z=irods://u%23z@h/z/a%20b", "z=irods://[::1]:1/z//c/", "=irods:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		c, err := Resolve(Input{Branches: []string{arg}, Flags: []Given{}, Dir: "/"})
		if err != nil {
			if code := exit.CodeOf(err); code != exit.BadURL || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("code %d, %q", code, err)
			}
			return
		}
		b := c.Branches[0]
		in := Input{Branches: []string{b.Name + "=" + b.URL}, Dir: "/"}
		user := ""
		if b.Kind() == Zone { // which needs one
			user = b.User
			in.Flags = flags(t, "user="+b.Name+"="+user)
		}
		again, err := Resolve(in)
		if err != nil || again.Branches[0].URL != b.URL || again.Branches[0].User != user {
			t.Errorf("%q became %q, and that %+v, %v", arg, b.URL, again, err)
		}
		for element := range strings.SplitSeq(b.Name, "/") {
			if b.Name != "" && (element == "" || element == "." || element == "..") {
				t.Errorf("name %q accepted", b.Name)
			}
		}
	})
}

// FuzzMountOptions checks that a list of mount options is refused in one line or
// gives nothing but known options, and that no password gets through.
func FuzzMountOptions(f *testing.F) {
	for _, s := range []string{"rw,noexec,attr_ttl=5s", `a\,b,x-y=1`, "password=x", "ro,rw", ",,=,=x"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, list string, sloppy bool) {
		m, err := ParseMountOptions(list, sloppy)
		if err != nil {
			if exit.CodeOf(err) != exit.Usage || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("code %d, %q", exit.CodeOf(err), err)
			}
			return
		}
		for _, g := range m.Given {
			if g.Option.Closed&NotAsFlag != 0 {
				t.Errorf("%s got through", g.Option.Name)
			}
		}
	})
}
