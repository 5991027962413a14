package doctor

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/secret"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/webdav"
)

func check(t *testing.T, f Finding, status Status, text string) {
	t.Helper()
	if f.Status != status || !strings.Contains(f.Detail+" -> "+f.Remedy, text) {
		t.Errorf("%+v, want %s %q", f, status, text)
	}
	if (f.Status != OK) != (f.Remedy != "") {
		t.Errorf("%+v: a remedy belongs to what is not OK", f)
	}
}

func TestMachine(t *testing.T) {
	d := Doctor{Config: &settings.Config{}, Facts: fusecheck.Facts{DeviceErr: unix.ENOENT}}
	check(t, d.fuse(), Fail, "modprobe fuse")
	d.Facts = fusecheck.Facts{Admin: true}
	check(t, d.fuse(), OK, "by mount(2)")
	f, relevant := d.helper()
	check(t, f, Warn, "apt install fuse3")
	if !relevant {
		t.Error("root is not told that users cannot mount")
	}
	d.Facts.HelperPath = "/usr/bin/fusermount3"
	f, _ = d.helper()
	check(t, f, Warn, "chmod u+s /usr/bin/fusermount3")
	check(t, kernel(), OK, "Linux ")
	for release, want := range map[string][2]int{"6.18.44-fc-v3": {6, 18}, "4.4": {4, 4}, "odd": {0, 0}} {
		if major, minor := version(release); major != want[0] || minor != want[1] {
			t.Errorf("%s is %d.%d", release, major, minor)
		}
	}
}

func TestNamespaces(t *testing.T) {
	root := t.TempDir()
	check(t, namespaces(root), OK, "unshare -Urm is a way")
	knob := filepath.Join(root, "user/max_user_namespaces")
	if err := errors.Join(os.Mkdir(filepath.Dir(knob), 0o755), os.WriteFile(knob, []byte("0\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	check(t, namespaces(root), OK, "not available to ordinary users (user/max_user_namespaces = 0)")
}

func TestAllowOther(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "fuse.conf")
	d := Doctor{}
	check(t, d.allowOther(conf), Fail, "add the line user_allow_other to "+conf)
	if err := os.WriteFile(conf, []byte("# user_allow_other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, d.allowOther(conf), Fail, "user_allow_other")
	if err := os.WriteFile(conf, []byte("mount_max = 10\nuser_allow_other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, d.allowOther(conf), OK, "allowed")
	d.Facts.Admin = true
	check(t, d.allowOther("/nonexistent"), OK, "allowed")
}

func TestCacheDirectory(t *testing.T) {
	dir := t.TempDir()
	d := Doctor{CacheDir: filepath.Join(dir, "a/b")}
	check(t, d.cache(), OK, dir+"/a/b, ")
	if err := os.MkdirAll(filepath.Join(d.CacheDir, "x/parked"), 0o700); err != nil {
		t.Fatal(err)
	}
	check(t, d.cache(), OK, " free")
	for _, name := range []string{"file.1", "file.1.json"} {
		if err := os.WriteFile(filepath.Join(d.CacheDir, "x/parked", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check(t, d.cache(), Warn, "holds 1 files that no server took")
	if err := os.Chmod(d.CacheDir, 0o777); err != nil {
		t.Fatal(err)
	}
	check(t, d.cache(), Fail, "can be changed by others (mode 0777) -> run: chmod 700")
	d.CacheDir = filepath.Join(dir, "a/b/x/parked/file.1/below")
	check(t, d.cache(), Fail, "choose another --cache-dir")
}

func TestServerFacts(t *testing.T) {
	check(t, identity(&webdav.Info{Product: "Nextcloud", Version: "34", Root: "u", Dialect: "nextcloud", Protocol: "HTTP/2.0"}), OK, "Nextcloud 34 at u, dialect nextcloud, HTTP/2.0")
	check(t, identity(&webdav.Info{Dialect: webdav.Unknown}), Warn, "--dialect")
	check(t, clock(0, false), OK, "does not tell")
	check(t, clock(2*time.Second, true), OK, "agrees")
	check(t, clock(-time.Minute, true), Warn, "differs from ours by -1m0s")
	check(t, promises(remote.Caps{AtomicPut: true, Overwrite: remote.GuardAtomic, Ranges: true}), OK, "before an overwrite: atomic")
	check(t, promises(remote.Caps{Overwrite: remote.GuardLook}), Warn, "may be left torn")
	check(t, promises(remote.Caps{AtomicPut: true}), Warn, "before an overwrite: none")
}

func TestAccessAndQuota(t *testing.T) {
	store := memory.New(memory.Options{})
	check(t, access(t.Context(), store, &settings.Branch{}), OK, "reading and writing")
	check(t, access(t.Context(), store, &settings.Branch{ReadOnly: true}), OK, "read-only")
	if f, known := quota(t.Context(), struct{ remote.Backend }{store}); known {
		t.Errorf("quota of a server without: %+v", f)
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 40: "5.0 TiB", 1 << 62: "4096.0 PiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// examine runs the doctor on one branch of a server.
func examine(t *testing.T, start efss.StartOptions, user efss.User, password string) Report {
	t.Helper()
	s, err := efss.Start(efss.Options{Dir: t.TempDir(), Users: []efss.User{user}}, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	config, err := settings.Resolve(settings.Input{
		Branches: []string{"a=" + s.DAVURL("me")}, Environ: []string{"MESHMOUNT_PASSWORD_A=" + password, "MESHMOUNT_USER=me", "MESHMOUNT_CA_FILE=" + s.CAFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := Doctor{Config: config, CacheDir: t.TempDir(), Facts: fusecheck.Facts{Admin: true}, Log: slog.New(slog.DiscardHandler),
		Secrets: &secret.Fetcher{Environ: []string{"MESHMOUNT_PASSWORD_A=" + password}}}
	return d.Examine(t.Context())
}

// find returns the finding of a check on the branch.
func find(t *testing.T, r Report, name string) Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Check == name && f.Branch == "a" {
			return f
		}
	}
	t.Fatalf("no %s in %+v", name, r)
	return Finding{}
}

func TestBranch(t *testing.T) {
	me := efss.User{Name: "me", Password: "p", Quota: 1 << 20}
	r := examine(t, efss.StartOptions{TLS: true, NotAfter: time.Now().Add(100 * time.Hour)}, me, "p")
	check(t, find(t, r, "certificate"), Warn, "it expires in 4 days")
	check(t, find(t, r, "credentials"), OK, "accepted (basic)")
	check(t, find(t, r, "quota"), Warn, "only 1.0 MiB left")
	if r.Failed != 0 || r.Warned < 2 || r.Err() != nil {
		t.Errorf("%+v", r)
	}
	r = examine(t, efss.StartOptions{TLS: true, NotAfter: time.Now().Add(-time.Hour)}, me, "p")
	check(t, find(t, r, "certificate"), Fail, "tell the server's admin")
	check(t, find(t, r, "tls"), Fail, "expired on ")
	r = examine(t, efss.StartOptions{}, me, "wrong")
	check(t, find(t, r, "credentials"), Fail, "the server refused the password of me")
	if r.Failed != 1 || exit.CodeOf(r.Err()) != exit.DoctorFailed {
		t.Errorf("%+v", r)
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil || !strings.Contains(out.String(), "FAIL  a: credentials: the server refused") || !strings.Contains(out.String(), "\n      -> check it") {
		t.Errorf("%v\n%s", err, out.String())
	}
	r = examine(t, efss.StartOptions{}, me, "")
	check(t, find(t, r, "credentials"), Fail, "is empty")
}
