package cli

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/integration/efss"
)

func TestBadCommandLines(t *testing.T) {
	w := newWorld(t)
	full := filepath.Join(w.dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	const branch = "a=dav://127.0.0.1:1/x"
	cases := []struct {
		name string
		args []string
		code exit.Code
		want string
	}{
		{"no mount point", []string{"mount"}, exit.Usage, "mount: MOUNTPOINT is missing; run: meshmount help mount"},
		{"no branch", []string{"mount", w.point}, exit.Usage, "there is no branch to mount; write NAME=URL"},
		{"unknown flag", []string{"mount", "--fast", w.point, branch}, exit.Usage, "unknown flag: --fast"},
		{"unknown command", []string{"mnt"}, exit.Usage, `unknown command "mnt"`},
		{"bad value", []string{"mount", "--attr-ttl=x", w.point, branch}, exit.Usage, `--attr-ttl: attr-ttl: "x" is not a duration`},
		{"bad mount option", []string{"mount", "-o", "ro,fast", w.point, branch}, exit.Usage, `unknown mount option "fast"`},
		{"no name", []string{"mount", w.point, "davs://h/p"}, exit.BadURL, "has no name; write NAME=URL"},
		{"password in the URL", []string{"mount", w.point, "a=davs://me:hunter2@h/p"}, exit.BadURL, "the URL holds a password"},
		{"password as a flag", []string{"mount", "--password=hunter2", w.point, branch}, exit.Usage, "unknown flag: --password"},
		{"twice", []string{"mount", w.point, branch, branch}, exit.BadURL, `branch "a" is given twice`},
		{"plain HTTP", []string{"mount", w.point, "a=dav://192.0.2.1/"}, exit.BadURL, "plain HTTP to another host is refused"},
		{"no configuration", []string{"mount", "--config", "none.toml", w.point}, exit.Config, "none.toml: no such file or directory"},
		{"bad configuration", []string{"mount", "--config", w.write("c.toml", 0o600, "umask = '022'\nfast = 1\n"), w.point}, exit.Config, `c.toml:2: unknown key "fast"`},
		{"missing mount point", []string{"mount", w.point + "x", branch}, exit.MountPointMissing, "does not exist; run: mkdir -p"},
		{"full mount point", []string{"mount", full, branch}, exit.MountPointNotEmpty, "is not empty"},
		{"file as mount point", []string{"mount", w.write("file", 0o600, ""), branch}, exit.MountPointNotDir, "is not a directory"},
		{"cache inside", []string{"mount", "--cache-dir", filepath.Join(w.point, "c"), w.point, branch}, exit.CacheBad, "lies within the mount point"},
		{"log inside", []string{"mount", "--log-file", filepath.Join(w.point, "l"), w.point, branch}, exit.CacheBad, "lies within the mount point"},
		{"public cache", []string{"mount", "--cache-dir", full, w.point, branch}, exit.OK, ""}, // made public below
		{"no secret", []string{"mount", w.point, "a=dav://me@127.0.0.1:1/x"}, exit.SecretMissing, "no password for user me; use --password-file, --password-command or MESHMOUNT_PASSWORD_A"},
		{"public secret", []string{"mount", "--password-file", w.write("pw", 0o644, "hunter2"), w.point, "a=dav://me@127.0.0.1:1/x"}, exit.SecretUnusable, "run: chmod 600 " + w.dir + "/pw"},
		{"descriptor in the background", []string{"mount", "/dev/fd/9", branch}, exit.Usage, "must stay in the foreground"},
		{"serve by hand", []string{"serve", w.point}, exit.Usage, "serve is not for people"},
		{"not mounted", []string{"unmount", w.point}, exit.NotMounted, "no meshmount mount on " + w.point},
		{"unmount of nothing", []string{"unmount", w.point + "/x/y"}, exit.NotMounted, "no such file"},
		{"unknown shell", []string{"completion", "tcsh"}, exit.Usage, `no completion for "tcsh"`},
		{"unknown help", []string{"help", "me"}, exit.Usage, `unknown command "me"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			if c.name == "public cache" {
				if err := os.Chmod(full, 0o777); err != nil {
					t.Fatal(err)
				}
				c.code, c.want = exit.CacheBad, "can be changed by others (mode 0777); run: chmod 700"
			}
			w.fails(w.run(c.args...), c.code, c.want)
		})
	}
	w.t = t
	w.clean()
}

func TestWrongPasswordIsOneAttempt(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=wrong")
	for _, command := range [][]string{{"mount", w.point}, {"mount", "-f", w.point}, {"doctor"}} {
		before := s.AuthFailures()
		r := w.run(append(command, "a="+address(s))...)
		if command[0] == "doctor" {
			if r.code != exit.DoctorFailed || !strings.Contains(r.out, "FAIL  a: credentials: the server refused the password of me") {
				t.Errorf("%+v", r)
			}
		} else {
			w.fails(r, exit.AuthFailed, "the server refused the password of me; check it")
		}
		if n := s.AuthFailures() - before; n != 1 {
			t.Errorf("%q: %d attempts", command, n)
		}
	}
	w.clean()
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestServersThatCannotBeMounted(t *testing.T) {
	expired := site(t, efss.StartOptions{TLS: true, NotAfter: time.Now().Add(-24 * time.Hour)})
	secure := site(t, efss.StartOptions{TLS: true})
	plain := site(t, efss.StartOptions{})
	down := site(t, efss.StartOptions{})
	down.SetMaintenance(true)
	status := func(code int) string {
		return answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	page := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>hello</html>"))
	})
	silent := silentServer(t)
	cases := []struct {
		name, url string
		args      []string
		code      exit.Code
		want      string
	}{
		{"expired certificate", address(expired), []string{"--ca-file", expired.CAFile}, exit.TLS, " expired on "},
		{"unknown authority", address(secure), nil, exit.TLS, "is not trusted"},
		{"no CA file", address(secure), []string{"--ca-file", "none.pem"}, exit.Config, "none.pem"},
		{"TLS to a plain port", strings.Replace(address(plain), "dav://", "davs://", 1), nil, exit.TLS, "does not speak TLS at this port"},
		{"unknown host", "davs://me@host.invalid/dav", nil, exit.UnknownHost, "host.invalid"},
		{"connection refused", "dav://me@" + closedPort(t) + "/", nil, exit.Unreachable, "connection refused"},
		{"no answer", silent, []string{"--io-timeout=500ms", "--connect-timeout=500ms"}, exit.Unreachable, "no answer"},
		{"web page", page + "/", nil, exit.NotCollection, "not a WebDAV collection"},
		{"nothing there", strings.TrimSuffix(address(plain), "/") + "/none", nil, exit.NotCollection, "not a WebDAV collection"},
		{"forbidden", status(http.StatusForbidden) + "/", nil, exit.Denied, "permission denied"},
		{"broken", status(http.StatusInternalServerError) + "/", nil, exit.ServerTrouble, "the server is in trouble"},
		{"maintenance", address(down), nil, exit.ServerTrouble, "maintenance"},
		{"login wanted", strings.Replace(address(plain), "me@", "", 1), []string{"--password-env=a=NONE"}, exit.SecretMissing, "has a password but no user"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
			w.fails(w.run(append([]string{"mount", w.point, "a=" + c.url}, c.args...)...), c.code, c.want)
			w.clean()
		})
	}
}

// silentServer accepts connections and says nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "dav://me@" + l.Addr().String() + "/"
}

func TestServerThatWantsALogin(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t)
	w.fails(w.run("mount", w.point, "a="+strings.Replace(address(s), "me@", "", 1)), exit.AuthFailed, "the server wants a login")
	w.clean()
}

func TestOneBadBranchFailsTheMount(t *testing.T) {
	good := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD_GOOD=hunter2")
	w.fails(w.run("mount", w.point, "good="+address(good), "bad=dav://"+closedPort(t)+"/"), exit.Unreachable, "branch bad (dav://127.0.0.1:")
	w.clean()
}

func TestWithoutFUSE(t *testing.T) {
	w := newWorld(t)
	isolate := []string{"unshare", "-m"}
	if os.Geteuid() != 0 {
		isolate = []string{"unshare", "-Urm"}
	}
	// The files of the test may be in /dev/shm.
	script := `exec 3</dev/shm; mount -t tmpfs none /dev && mknod /dev/null c 1 3 2>/dev/null
		mkdir /dev/shm && mount -c --bind /proc/self/fd/3 /dev/shm; exec 3<&-; exec "$0" "$@"`
	args := append(isolate, "sh", "-c", script, "/proc/self/exe")
	// /proc/self/exe would be the shell there.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args[len(args)-1] = self
	cmd := exec.Command(args[0], append(args[1:], "mount", w.point, "a=dav://127.0.0.1:1/x")...)
	cmd.Env, cmd.Dir = w.env, w.dir
	w.fails(w.finish(cmd), exit.NoFUSE, "FUSE is not available: /dev/fuse: no such file or directory; as root: modprobe fuse")
	w.clean()
}
