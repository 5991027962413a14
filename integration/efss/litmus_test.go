package efss

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/httpd"
)

// tool returns the path of a program that the tests need.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: run `make deps`", name)
	}
	return path
}

var (
	litmusSuites = []string{"basic", "copymove", "props", "locks", "http"}
	litmusLine   = regexp.MustCompile(`(?m)^(?: *\.+)? *\d+\. ([a-z0-9_]+)\.* (pass|FAIL)`)
)

// litmus runs all suites against a URL. It returns how many tests passed and the
// names of those that failed, with the suite before them; skipped ones do not count.
func litmus(t *testing.T, url, user, password string) (passed int, failed []string) {
	t.Helper()
	for _, suite := range litmusSuites {
		cmd := exec.CommandContext(t.Context(), tool(t, "litmus"), "-k", url, user, password)
		cmd.Dir = t.TempDir()
		cmd.Env = append(cmd.Environ(), "TESTS="+suite)
		out, _ := cmd.CombinedOutput() // the exit code repeats the text
		text := strings.ReplaceAll(string(out), "\r", "\n")
		if !strings.Contains(text, "<- summary for `"+suite+"'") {
			t.Fatalf("litmus %s did not finish:\n%s", suite, text)
		}
		for _, m := range litmusLine.FindAllStringSubmatch(text, -1) {
			if m[2] == "pass" {
				passed++
			} else {
				failed = append(failed, suite+" "+m[1])
			}
		}
	}
	slices.Sort(failed)
	return passed, slices.Compact(failed)
}

// litmusAccepted are the tests that fail, because the real server fails them too.
var litmusAccepted = map[Dialect][]string{
	Nextcloud: {
		"locks indirect_refresh", // a lock on a folder does not protect its children,
		"locks notowner_modify",  // nor can it be refreshed through them
		"locks lock_shared",      // a shared lock is granted as an exclusive one
	},
	OpenCloud: {
		"locks cond_put",               // a PUT with the lock's token is refused,
		"locks cond_put_with_not",      // so this,
		"locks complex_cond_put",       // this,
		"locks owner_modify",           // this
		"locks fail_complex_cond_put",  // and this one get 423
		"locks fail_cond_put_unlocked", // If is ignored
		"locks indirect_refresh",       // as on Nextcloud
		"locks notowner_modify",
		"locks lock_shared",
		"locks unmapped_lock", // LOCK of a missing name is 500
	},
	Reva: {
		"basic options", "locks options", // OPTIONS is 500, and so no lock is tried
		"copymove copy_simple", "copymove copy_overwrite", "copymove copy_coll", // COPY is 500
		"copymove copy_shallow", "copymove move_coll", // for want of the above
	},
	XRootD: {
		"basic mkcol_again", "basic mkcol_over_plain", // MKCOL of what is there is 201,
		"basic mkcol_no_parent", "basic put_no_parent", // and parents are made
		"copymove copy_simple", "copymove copy_overwrite", "copymove copy_coll", // no COPY
		"copymove copy_shallow", "copymove move_coll",
		"copymove move",                                      // Overwrite: F is ignored
		"props propset", "props propmanyns", "props propget", // no PROPPATCH
	},
}

// TestLitmus runs Debian's litmus on each dialect. What fails must be as listed, no
// more and no less; for the servers that can run here, as on the real one.
func TestLitmus(t *testing.T) {
	real := map[Dialect]func(httpd.Options) (*httpd.Server, error){ModDAV: httpd.Start, Rclone: httpd.StartRclone}
	for _, d := range Dialects() {
		t.Run(d.String(), func(t *testing.T) {
			w := start(t, d)
			want := litmusAccepted[d]
			if run := real[d]; run != nil {
				s := httpd.Run(t, run, httpd.Options{User: w.user, Password: w.app})
				_, want = litmus(t, s.URL, w.user, w.app)
			}
			passed, failed := litmus(t, w.DAVURL(w.user), w.user, w.app)
			want = slices.Sorted(slices.Values(want))
			if !slices.Equal(failed, want) {
				t.Errorf("failed %q\naccepted %q", failed, want)
			}
			if passed+len(failed) < 40 {
				t.Errorf("only %d tests ran", passed+len(failed))
			}
		})
	}
}
