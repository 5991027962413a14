package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/integration/efss"
)

func TestDoctor(t *testing.T) {
	s := site(t, efss.StartOptions{TLS: true})
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
	args := []string{"doctor", "--ca-file", s.CAFile, "a=" + address(s)}
	r := w.run(args...)
	w.succeeds(r)
	for _, want := range []string{"OK    kernel: Linux ", "OK    fuse: /dev/fuse is usable", "OK    cache directory: " + w.dir + "/cache/meshmount, ",
		"OK    a: certificate: of ", "OK    a: server: Nextcloud", "dialect nextcloud", "OK    a: credentials: accepted (basic)",
		"OK    a: clock: agrees", "a: promises: files are replaced atomically", "OK    a: access: reading and writing"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	r = w.run(append(args, "--json")...)
	w.succeeds(r)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Failed != 0 || len(report.Findings) < 8 {
		t.Errorf("%v, %+v", err, report)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "cache")); err == nil {
		t.Errorf("the doctor has made %v", left)
	}
	r = w.run("doctor", "a="+address(s), "=dav://"+closedPort(t)+"/")
	if r.code != exit.DoctorFailed || !strings.Contains(r.out, "FAIL  a: tls: the certificate of ") ||
		!strings.Contains(r.out, "FAIL  =: server: connection refused") || !strings.Contains(r.out, "      -> ") ||
		!strings.Contains(r.errors, "checks failed") {
		t.Errorf("%+v", r)
	}
	w.clean()
}

func TestConfigShowsOrigins(t *testing.T) {
	w := newWorld(t, "MESHMOUNT_UMASK=077", "MESHMOUNT_PASSWORD_A=hunter2")
	config := w.write("c.toml", 0o600, "attr-ttl = 9\n[branch.a]\nurl = 'davs://me@h/p'\n")
	r := w.run("config", "--config", config, "--dir-ttl=1m", "-o", "ro")
	w.succeeds(r)
	for _, want := range []string{
		`umask = "077"  # environment MESHMOUNT_UMASK`, `attr-ttl = "9s"  # config ` + config + ":1", `dir-ttl = "1m"  # command line --dir-ttl`,
		"read-only = true  # command line -o ro", `password-env = "MESHMOUNT_PASSWORD_A"  # environment MESHMOUNT_PASSWORD_A`, "max-connections = 64  # default",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, password) {
		t.Errorf("the password is shown:\n%s", r.out)
	}
}

func TestConfigShowsWhatFits(t *testing.T) {
	w := newWorld(t)
	r := w.run("config", "--memory=64MiB", "a=davs://h/p")
	w.succeeds(r)
	for _, want := range []string{`memory = "64MiB"  # command line --memory`, `read-ahead = "8MiB"  # default`, `max-request = "1MiB"  # default`, "streams = 4  # default"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	w.fails(w.run("config", "--memory=64MiB", "--read-ahead=1GiB", "a=davs://h/p"), exit.Usage, "read-ahead 1GiB is too large: memory is 64MiB; give --memory=4128MiB or more, or --read-ahead=8MiB")
	w.fails(w.run("mount", "--streams=40", w.point, "a=davs://h/p"), exit.Usage, "40 streams need twice as many connections, and max-connections is 64; give --max-connections=80 or more, or fewer streams")
}

func TestHelpAndManualNameEverything(t *testing.T) {
	w := newWorld(t)
	help, man := w.run("mount", "--help"), filepath.Join(w.dir, "man")
	w.succeeds(w.run("man", man))
	page, err := os.ReadFile(filepath.Join(man, "meshmount-mount.1"))
	if err != nil {
		t.Fatal(err)
	}
	markdown := w.run("man", "--markdown")
	for _, o := range settings.Options() {
		if !strings.Contains(markdown.out, "`"+o.Name+"`") && !strings.Contains(markdown.out, "`--"+o.Name+"`") {
			t.Errorf("%s is not in the tables", o.Name)
		}
		if o.Closed&settings.NotAsFlag != 0 {
			continue
		}
		if !strings.Contains(help.out, "--"+o.Name) || !strings.Contains(help.out, string(o.Group)+":\n") {
			t.Errorf("%s is not in the help", o.Name)
		}
		if !strings.Contains(string(page), "--"+strings.ReplaceAll(o.Name, "-", `\-`)) && !strings.Contains(string(page), "--"+o.Name) {
			t.Errorf("%s is not in the manual", o.Name)
		}
	}
	root := w.run("--help")
	manual := w.run("man")
	for _, row := range exit.Table() {
		for _, text := range []string{root.out, manual.out, markdown.out} {
			if !strings.Contains(text, row.Meaning) {
				t.Errorf("exit code %d is missing in\n%s", row.Code, text)
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(man, "*.1"))
	if err != nil || len(pages) != 23 {
		t.Errorf("pages %q, %v", pages, err)
	}
}

func TestCompletionAndVersion(t *testing.T) {
	w := newWorld(t)
	for shell, want := range map[string]string{"bash": "__start_meshmount", "zsh": "#compdef meshmount", "fish": "complete -c meshmount"} {
		if r := w.run("completion", shell); r.code != exit.OK || !strings.Contains(r.out, want) {
			t.Errorf("%s: code %d, %.100s", shell, r.code, r.out)
		}
	}
	if r := w.run("__complete", "mount", "--log-level", ""); !strings.Contains(r.out, "debug\ninfo\nwarn\nerror\n") {
		t.Errorf("completion of a choice: %s", r.out)
	}
	if r := w.run("__complete", "mount", "--drain"); !strings.Contains(r.out, "--drain-timeout\t") {
		t.Errorf("completion of a flag: %s", r.out)
	}
	if r := w.run("version"); r.code != exit.OK || !strings.HasPrefix(r.out, "meshmount test (") {
		t.Errorf("%+v", r)
	}
	if r := w.run(); r.code != exit.OK || !strings.Contains(r.out, "Exit codes:") {
		t.Errorf("%+v", r)
	}
}
