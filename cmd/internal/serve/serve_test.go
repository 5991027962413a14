package serve

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/fs/mount"
	"github.com/meshmount/meshmount/remote"
)

func TestPlanIsHandedOverWhole(t *testing.T) {
	config, err := settings.Resolve(settings.Input{Branches: []string{"a=davs://me@h/p", "=dav://127.0.0.1/q"}, Environ: []string{"MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_UMASK=7"}})
	if err != nil {
		t.Fatal(err)
	}
	p := &Plan{Config: *config, Point: "/mnt", CacheDir: "/c", Kernel: []string{"noexec"}, Version: "1", Memory: assemble.Split(1<<28, 0, 1<<20), Secrets: Secrets{"a": remote.NewSecret("hunter2"), "": {}}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.send(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := receive(r)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, p)
	}
	if got.Secrets["a"].Reveal() != "hunter2" {
		t.Error("the secret is lost")
	}
	if _, err := receive(strings.NewReader("{")); err == nil {
		t.Error("half a plan was accepted")
	}
}

func TestReports(t *testing.T) {
	for _, sent := range []error{nil, exit.New(exit.TLS, "do this", "bad\nthing")} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// Tell owns and closes the descriptor it is given.
		fd, err := unix.Dup(int(w.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		Tell(fd, []string{"odd"}, sent)
		got, err := await(r)
		if err != nil || got.Code != exit.CodeOf(sent) || !slices.Equal(got.Warnings, []string{"odd"}) || sent != nil && got.Message != "bad thing; do this" {
			t.Errorf("%+v, %v", got, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("the pipe stayed open")
		}
	}
	if _, err := await(strings.NewReader("")); err == nil {
		t.Error("silence was taken for a report")
	}
}

func TestClosersRunLastInFirstOut(t *testing.T) {
	var order, failed []string
	var c closers
	step := func(name string, err error) {
		c.add(name, time.Second, func(ctx context.Context) error {
			if _, limited := ctx.Deadline(); !limited {
				t.Errorf("%s has no deadline", name)
			}
			order = append(order, name)
			return err
		})
	}
	step("first", nil)
	step("second", errors.New("broken"))
	step("third", nil)
	c.add("patient", 0, func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); limited {
			t.Error("patience 0 has a deadline")
		}
		return nil
	})
	c.run(t.Context(), func(what string, err error) { failed = append(failed, what+": "+err.Error()) })
	if !slices.Equal(order, []string{"third", "second", "first"}) || !slices.Equal(failed, []string{"second: broken"}) {
		t.Errorf("%q, failed %q", order, failed)
	}
	c.run(t.Context(), func(string, error) { t.Error("done twice") })
}

func TestCloserThatNeverReturns(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var c closers
	done := false
	c.add("below", time.Second, func(context.Context) error { done = true; return nil })
	c = append(c, closer{"stuck", time.Millisecond, time.Millisecond, func(context.Context) error { <-release; return nil }})
	var failed []string
	c.run(t.Context(), func(what string, err error) { failed = append(failed, what+": "+err.Error()) })
	if !done || !slices.Equal(failed, []string{"stuck: not done within 2ms"}) {
		t.Errorf("below done: %v, failed %q", done, failed)
	}
}

func TestLeftContentIsTold(t *testing.T) {
	r := Runner{Plan: &Plan{CacheDir: t.TempDir()}}
	if err := r.left(nil); err != nil {
		t.Errorf("no directory: %v", err)
	}
	put := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(r.parkDir(), 0o700), os.WriteFile(filepath.Join(r.parkDir(), name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("old.1", "x")
	before := r.parked()
	if err := r.left(before); err != nil {
		t.Errorf("only old content: %v", err)
	}
	put("new.2", "x")
	put("new.2.json", `{"path":"/a/new","cause":"no space left"}`)
	put("odd.3", "x")
	err := r.left(before)
	want := "2 changes (2 B) did not reach their servers: /a/new (no space left), odd.3; it is kept in " + r.parkDir() + ", with a note beside each file; list: " + pending.LeftFile(r.Plan.CacheDir)
	if exit.CodeOf(err) != exit.DataLeft || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	list, err := pending.ReadLeft(r.Plan.CacheDir)
	if err != nil || list.Count != 2 || list.Bytes != 2 || list.Changes[0].Cause != "no space left" || list.Changes[1].File != filepath.Join(r.parkDir(), "odd.3") {
		t.Errorf("%+v, %v", list, err)
	}
	r.leftovers = pending.Left{}
	put("x.4", "")
	put("x.5", "")
	if err := r.left(before); !strings.Contains(err.Error(), ", ...; ") {
		t.Errorf("many: %v", err)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, &settings.Settings{LogLevel: "warn", LogFormat: "json"})
	log.Info("quiet")
	log.Warn("loud", "secret", remote.NewSecret("hunter2"))
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud","secret":"[secret]"`) {
		t.Errorf("%s", got)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "log")
	for range 2 {
		file, err := OpenLog(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.WriteString("x")
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "xx" {
		t.Errorf("%q, %v", text, err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := OpenLog(dir); err == nil {
		t.Error("a directory was opened as log")
	}
}

func TestSourceName(t *testing.T) {
	one := settings.Config{Branches: []settings.Branch{{URL: "davs://h/p"}}}
	two := settings.Config{Branches: []settings.Branch{{}, {}}}
	named := settings.Config{Branches: two.Branches, Settings: settings.Settings{FSName: "x"}}
	for want, c := range map[string]*settings.Config{"davs://h/p": &one, "meshmount": &two, "x": &named} {
		if got := sourceName(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		args   []string
		kb     int
		direct mount.DirectIO
	}{
		{nil, mount.DefaultReadAheadKB, mount.DirectNever},
		{[]string{"kernel-read-ahead=5000", "direct-io=always"}, 5, mount.DirectAlways},
		{[]string{"kernel-read-ahead=0", "direct-io=auto"}, 0, mount.DirectAuto},
	} {
		in := settings.Input{Branches: []string{"a=davs://me@h/p"}, Dir: "/"}
		for _, arg := range c.args {
			name, text, _ := strings.Cut(arg, "=")
			o, _ := settings.Lookup(name)
			in.Flags = append(in.Flags, settings.Given{Option: o, Text: text, Where: "--" + name})
		}
		config, err := settings.Resolve(in)
		if err != nil {
			t.Fatal(err)
		}
		r := Runner{Plan: &Plan{Config: *config}}
		if o := r.mountOptions(); o.ReadAheadKB != c.kb || o.DirectIO != c.direct || o.ReadOnly || o.Validate() != nil {
			t.Errorf("%q: %+v", c.args, o)
		}
	}
}
