package settings

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func TestTableIsConsistent(t *testing.T) {
	seen := map[string]bool{}
	var s Settings
	var b Branch
	for _, o := range Options() {
		if seen[o.Name] || o.Help == "" || o.Name != strings.ToLower(o.Name) || !slices.Contains(Groups(), o.Group) {
			t.Errorf("option %q: double, without help or group, or not in lower case", o.Name)
		}
		seen[o.Name] = true
		targets := 0
		for _, set := range []bool{o.whole != nil, o.branch != nil, o.credential != nil} {
			if set {
				targets++
			}
		}
		if targets != 1 || (o.whole != nil) != (o.Scope == Whole) {
			t.Errorf("option %s sets %d targets in scope %d", o.Name, targets, o.Scope)
		}
		if (o.Unit == "") != o.IsSwitch() {
			t.Errorf("option %s: unit %q for a %s", o.Name, o.Unit, o.Type())
		}
		if o.credential != nil {
			continue
		}
		if err := o.parse(o.target(&s, &b), o.Default, "/"); err != nil {
			t.Errorf("default of %s: %v", o.Name, err)
		}
	}
}

// TestEveryFieldHasAnOption finds settings that nobody can set.
func TestEveryFieldHasAnOption(t *testing.T) {
	var s Settings
	var b Branch
	reached := map[uintptr]bool{}
	for _, o := range Options() {
		if p := o.target(&s, &b); p != nil {
			reached[reflect.ValueOf(p).Pointer()] = true
		}
	}
	unreached := func(v reflect.Value) (names []string) {
		for i := range v.NumField() {
			if !reached[v.Field(i).Addr().Pointer()] {
				names = append(names, v.Type().Field(i).Name)
			}
		}
		return names
	}
	if got := unreached(reflect.ValueOf(&s).Elem()); len(got) > 0 {
		t.Errorf("no option sets %q", got)
	}
	if got := unreached(reflect.ValueOf(&b).Elem()); !slices.Equal(got, []string{"Name", "URL", "Credential"}) {
		t.Errorf("no option sets %q", got)
	}
}

func TestValues(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ option, text, want string }{
		{"attr-ttl", "90", "1m30s"}, {"attr-ttl", "5m", "5m"}, {"attr-ttl", "2h", "2h"}, {"attr-ttl", "250ms", "250ms"},
		{"read-only", "YES", "true"}, {"read-only", "off", "false"},
		{"umask", "0027", "027"}, {"umask", "0o7", "007"},
		{"uid", "root", "0"}, {"gid", "12", "12"},
		{"ca-file", "x/../y", "/base/y"}, {"ca-file", "~/y", filepath.Join(home, "y")}, {"ca-file", "", ""},
	}
	for _, c := range cases {
		o, _ := Lookup(c.option)
		p := o.target(new(Settings), new(Branch))
		if err := o.parse(p, c.text, "/base"); err != nil || text(p) != c.want {
			t.Errorf("%s %q: %q, %v; want %q", c.option, c.text, text(p), err, c.want)
		}
	}
}

func TestMountOptions(t *testing.T) {
	list := `rw,noexec,nosuid,_netdev,user=joe,x-systemd.automount,attr_ttl=5s,allow_other,password-command=echo a\,b,comment=x,uid=0,username=me`
	m, err := ParseMountOptions(list, false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Kernel, []string{"noexec", "nosuid"}) {
		t.Errorf("kernel options %q", m.Kernel)
	}
	c := resolve(t, Input{Flags: m.Given, Branches: []string{"=davs://h/p"}, Dir: "/"})
	b := c.Branches[0]
	if b.AttrTTL.Seconds() != 5 || !c.AllowOther || b.Credential.Arg != "echo a,b" || b.User != "me" || b.ReadOnly {
		t.Errorf("%+v %+v", c.Settings, b)
	}
	if got := c.OriginOf("", "attr-ttl").String(); got != "command line -o attr_ttl" {
		t.Errorf("origin %q", got)
	}
}

func TestReadOnlyMountOptions(t *testing.T) {
	for list, want := range map[string]bool{"ro": true, "ro,rw": false, "rw,ro": true, "": false, "read_only": true} {
		m, err := ParseMountOptions(list, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := resolve(t, Input{Flags: m.Given, Branches: []string{"=davs://h/p"}}).Branches[0].ReadOnly; got != want {
			t.Errorf("%q: read-only %v", list, got)
		}
	}
}

func TestRefusedMountOptions(t *testing.T) {
	for list, want := range map[string]string{
		"password=hunter2": "-o password is refused: everybody could see it",
		"attr-tll=3":       `unknown mount option "attr-tll"; did you mean attr-ttl?`,
		"attr-ttl":         "mount option attr-ttl has no value",
		"remount":          "-o remount is not supported",
	} {
		_, err := ParseMountOptions(list, false)
		checkError(t, err, exit.Usage, want)
	}
	if m, err := ParseMountOptions("nonsense=1,ro", true); err != nil || len(m.Given) != 1 {
		t.Errorf("sloppy: %+v, %v", m, err)
	}
}

func TestWrittenConfigurationReadsBack(t *testing.T) {
	path := config(t, 0o600, twoBranches+"[branch.secret]\nurl='davs://me@h/p'\npassword='hunter2'\n")
	first := resolve(t, Input{Flags: flags(t, "config="+path, "attr-ttl=1h", "fs-name=a \"b\"\\"), Environ: []string{"MESHMOUNT_UMASK=7"}, Dir: "/"})
	var out bytes.Buffer
	if err := first.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`attr-ttl = "1h"  # command line --attr-ttl`, `umask = "007"  # environment MESHMOUNT_UMASK`, "# default", path + ":11\n", `user = "alice"  # config `, "# password is set, not shown  # config " + path} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("the password is shown:\n%s", out.String())
	}
	again := strings.Replace(out.String(), "# password is set, not shown", "password = 'hunter2' ", 1)
	second := resolve(t, Input{Flags: flags(t, "config="+config(t, 0o600, again)), Dir: "/"})
	second.ConfigFile = first.ConfigFile
	if !reflect.DeepEqual(first.Settings, second.Settings) || !reflect.DeepEqual(first.Branches, second.Branches) {
		t.Errorf("read back:\n%+v\n%+v\nwrote:\n%+v\n%+v", second.Settings, second.Branches, first.Settings, first.Branches)
	}
}
