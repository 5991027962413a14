package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// TestRemountKnowsTheTree walks a share, mounts it again, after an orderly end and after
// kill -9, and walks it again: whatever its size, a handful of requests prove what is
// remembered, and what has changed meanwhile is seen.
func TestRemountKnowsTheTree(t *testing.T) {
	t.Parallel()
	server, err := efss.Start(efss.Options{Dir: t.TempDir(), Dialect: efss.Nextcloud,
		Users: []efss.User{{Name: "alice", Password: "wonderland", AppPassword: "app-alice"}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	const ttl = 2 * time.Second
	args := []string{"--cache-dir", filepath.Join(t.TempDir(), "cache"), "--attr-ttl", ttl.String(), "--dir-ttl", ttl.String(),
		"a=" + branchURL(server.DAVURL("alice"), "alice")}
	env := []string{"MESHMOUNT_PASSWORD_A=app-alice"}
	const dirs, files = 30, 10
	m := harness.Mounting(t, env, args...)
	harness.Shell(t, filepath.Join(m.Dir, "a"), fmt.Sprintf("for d in $(seq %d); do mkdir d$d; for f in $(seq %d); do echo $d > d$d/f$f; done; done", dirs, files))
	want := dirs*(files+1) + 1
	m.MustUnmount(t)
	for round := range 4 {
		m = harness.Mounting(t, env, args...)
		server.ResetRequests()
		start := time.Now()
		got := strings.Count(harness.Shell(t, m.Dir, "find a -ls"), "\n")
		most := 8 * (1 + int(time.Since(start)/ttl)) // what has become too old meanwhile is proven again
		if n := server.Count("PROPFIND"); got != want || round > 0 && n > most {
			t.Errorf("round %d: %d names, want %d, with %d listings", round, got, want, n)
		} else {
			t.Logf("round %d: %d names with %d listings", round, got, n)
		}
		if round%2 == 0 {
			m.MustUnmount(t)
		} else {
			m.Kill()
		}
		other := harness.Mounting(t, env, args[len(args)-1]) // with a cache of its own
		if err := os.WriteFile(filepath.Join(other.Dir, "a", "d7", fmt.Sprint("new", round)), []byte("new"), 0o644); err != nil {
			t.Fatal(err)
		}
		other.MustUnmount(t)
		want++
		time.Sleep(ttl) // or what is remembered is still good as it is
	}
}
