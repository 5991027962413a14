package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// zoneClient connects to a zone by the protocol itself, as somebody else's program.
func zoneClient(t *testing.T, z *zone.Zone, user string) *wire.Conn {
	t.Helper()
	c, err := wire.Dial(t.Context(), wire.Config{Address: z.Addr(), User: user, Zone: z.Name(), Policy: wire.PolicyNone,
		Password: func(context.Context) (string, error) { return zoneSecret, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// oddNames are names that are hard on somebody: the shell, XML, the query language, SQL
// patterns, paths.
func oddNames() []string {
	return []string{
		"'", "''", "'a'", "a'b", `"`, `\`, `a\`, `a\'b`, "%", "100%", "_", "a_b", "a%b", `\%`, "&&", "||", "a||b", "a && b", "a'||b", "a' && 'b",
		"a'||'b'||'c", "' || = '", "<", ">", "&", "&amp;", "&lt;x>", "]]>", "<a>", "<DataObjInp_PI>", "#", "a#b", "?", "a?b", "%2F", "%41", "~", "$HOME",
		" ", " a", "a ", "  ", "\t", "\n", "a\nb", "\r", "a\r\nb", "\x01", "\x7f", "\x1b[0m", "...", "..a", "a..", ".hidden", "-rf", "--", "`x`", "*", "a*", "[a]", "{b}",
		"é", "e\u0301", "名前", "😀", "\u202e", "\u200b", "\ufeffbom", "ß", "İ", "IS NULL", "in ('a')", "=", ";", ":", "a:b", "CON", "aux.txt", "a.part", "a.tmp",
		strings.Repeat("n", 255), strings.Repeat("é", 127),
	}
}

// randomNames are of bytes and pieces that make trouble together.
func randomNames(random *rand.Rand, n int) []string {
	pieces := []string{"'", "\"", "||", "&&", "\\", "%", "_", "=", " ", "a", "b", "\n", "\r", "\x01", "<", ">", "&", "(", ")", ",", "é", "名", "\x7f", "."}
	var names []string
	for range n {
		var b strings.Builder
		for range 1 + random.IntN(12) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		if name := b.String(); name != "." && name != ".." && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// TestZoneNames makes files and directories by all kinds of names, lists, renames and
// removes them, and looks at the catalog with another client; names that the catalog
// cannot hold get EINVAL.
func TestZoneNames(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	m := harness.MountingProgram(t, harness.StaticProgram(t), []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret},
		"a="+zoneURL(z, z.Addr(), "alice"), "--attr-ttl=0s", "--dir-ttl=0s", "--negative-ttl=0s")
	dir := filepath.Join(m.Dir, "a")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	names := append(oddNames(), randomNames(rand.New(rand.NewPCG(seed, 3)), 10)...)
	slices.Sort(names)
	names = slices.Compact(names)
	for i, name := range names {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatalf("mkdir %q: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, name), fmt.Append(nil, i), 0o644); err != nil {
			t.Fatalf("make %q: %v", name, err)
		}
	}
	if got := listNames(t, dir); !slices.Equal(got, names) {
		t.Errorf("listed %q, made %q", got, names)
	}
	client := zoneClient(t, z, "alice")
	for i, name := range names {
		path := filepath.Join(dir, name, name)
		if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, fmt.Append(nil, i)) {
			t.Errorf("read %q: %q, %v", name, text, err)
		}
		if got := listNames(t, filepath.Dir(path)); !slices.Equal(got, []string{name}) {
			t.Errorf("in %q: %q", name, got)
		}
		var stat wire.RodsObjStat
		_, err := client.Call(t.Context(), &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: z.Home("alice") + "/" + name + "/" + name}, Out: &stat})
		if err != nil || stat.Size != int64(len(fmt.Sprint(i))) {
			t.Errorf("the zone knows of %q: %+v, %v", name, stat, err)
		}
	}
	for i, name := range names {
		to := names[(i+1)%len(names)]
		if len(to)+len(name) > 200 {
			continue
		}
		err := errors.Join(os.Rename(filepath.Join(dir, name, name), filepath.Join(dir, name, to+name)),
			os.Rename(filepath.Join(dir, name, to+name), filepath.Join(dir, name, name)))
		if err != nil {
			t.Errorf("rename %q to %q and back: %v", name, to+name, err)
		}
	}
	for _, name := range names {
		if err := errors.Join(os.Remove(filepath.Join(dir, name, name)), os.Remove(filepath.Join(dir, name))); err != nil {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if got := listNames(t, dir); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	m.MustUnmount(t)
}

// TestDeviationZoneNames makes names that the catalog cannot hold: they are not UTF-8, or
// the path gets too long.
func TestDeviationZoneNames(t *testing.T) {
	t.Parallel()
	z := startZone(t, zone.Options{})
	m := harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret}, "a="+zoneURL(z, z.Addr(), "alice"))
	dir := filepath.Join(m.Dir, "a")
	for _, name := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "caf\xe9"} {
		path := filepath.Join(dir, name)
		wantErrno(t, fmt.Sprintf("mkdir %q", name), os.Mkdir(path, 0o755), syscall.EINVAL)
		wantErrno(t, fmt.Sprintf("link %q", name), os.Symlink("x", path), syscall.EINVAL)
		wantErrno(t, fmt.Sprintf("make %q", name), os.WriteFile(path, nil, 0o644), syscall.EINVAL)
	}
	wantErrno(t, "256 bytes", os.Mkdir(filepath.Join(dir, strings.Repeat("n", 256)), 0o755), syscall.ENAMETOOLONG)
	deep, err := dir, error(nil)
	for err == nil && len(deep) < 3000 {
		deep = filepath.Join(deep, strings.Repeat("d", 100))
		err = os.Mkdir(deep, 0o755)
	}
	wantErrno(t, "a path of more than 1,023 bytes in the zone", err, syscall.ENAMETOOLONG)
	if len(deep) < 1000 {
		t.Errorf("the end comes after %d bytes", len(deep))
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Dir(deep), &st); err != nil {
		t.Errorf("the last one that fits: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, strings.Repeat("d", 100))); err != nil {
		t.Error(err)
	}
	waitFor(t, func() error {
		if got := listNames(t, dir); len(got) != 0 {
			return fmt.Errorf("the directory holds %q", got)
		}
		return nil
	})
}
