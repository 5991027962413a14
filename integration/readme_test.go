package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
)

// TestReadmeDialects compares the README's table of dialects with what the adapter
// says of each after having found it out.
func TestReadmeDialects(t *testing.T) {
	names := map[efss.Dialect]string{
		efss.Nextcloud: "Nextcloud", efss.OpenCloud: "OpenCloud, oCIS", efss.Reva: "Reva (CERNBox)",
		efss.ModDAV: "Apache mod_dav", efss.Rclone: "rclone serve webdav", efss.XRootD: "XRootD", efss.Generic: "any other",
	}
	want := "| server | atomic overwrite | overwrite only if unchanged | create only if absent | remove only if unchanged | part of a file | subtree changes seen at the top | mode, symlinks kept | mtime kept | longest name |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n"
	for _, dialect := range efss.Dialects() {
		caps := startEFSS(t, dialect).caps(t, "a")
		want += readmeRow(names[dialect], caps)
	}
	z := startZone(t, zone.Options{})
	backend := dialZone(t, zoneURL(z, z.Addr(), "alice"), zoneSecret)
	want += readmeRow("iRODS zone", backend.Caps())
	if err := backend.Close(); err != nil {
		t.Error(err)
	}
	checkSection(t, "<!-- dialects: compared with the code by a test -->", want)
}

// readmeRow is one line of the table of dialects.
func readmeRow(name string, c remote.Caps) string {
	yes := func(ok bool) string {
		if ok {
			return "yes"
		}
		return "no"
	}
	mtime := yes(c.StoresMTime)
	if c.StoresMTime && c.TimeGranularity > 0 {
		mtime = "to " + c.TimeGranularity.String()
	}
	ranges := "quick"
	if !c.Ranges {
		ranges = "from the start"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %d |\n", name, yes(c.AtomicPut),
		c.Overwrite, c.Create, c.RemoveGuard, ranges, yes(c.PropagatesVersion), yes(c.StoresMode), mtime, c.MaxName)
}

// checkSection compares the README after a mark, up to the next blank line.
func checkSection(t *testing.T, mark, want string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), mark+"\n")
	if !ok {
		t.Fatalf("the README has no mark %q", mark)
	}
	got, _, _ := strings.Cut(strings.TrimLeft(rest, "\n"), "\n\n")
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("the README has after %s\n%s\nbut the code says\n%s", mark, got, want)
	}
}

// TestReadmeFlags makes sure that the flags in the README exist.
func TestReadmeFlags(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	help := harness.Run(t, ".", harness.Program(t), "mount", "--help")
	found := 0
	for _, part := range strings.Split(string(text), "`--")[1:] {
		flag := strings.FieldsFunc(part, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') })[0]
		found++
		if !strings.Contains(help, "--"+flag) {
			t.Errorf("the README names --%s, which mount does not have", flag)
		}
	}
	if found < 5 {
		t.Errorf("only %d flags found in the README", found)
	}
}

// TestReadmeExitCodes compares the README's table of exit codes with the program's.
func TestReadmeExitCodes(t *testing.T) {
	tables := harness.Run(t, ".", harness.Program(t), "man", "--markdown")
	_, codes, ok := strings.Cut(tables, "| exit code | meaning |")
	if !ok || strings.Count(codes, "\n") < 10 {
		t.Fatalf("no table of exit codes in %q", tables)
	}
	checkSection(t, "<!-- exit codes: compared with the code by a test -->", "| exit code | meaning |"+codes)
}

// TestReadmeDeviations makes sure that every test which the README names is there.
func TestReadmeDeviations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob("*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, path := range slices.Concat(files, below) {
		part, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(part)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		if len(cells) != 3 || !strings.HasPrefix(last, "Test") {
			continue
		}
		rows++
		for name := range strings.SplitSeq(last, ", ") {
			if !strings.Contains(source.String(), "func "+name+"(t *testing.T)") {
				t.Errorf("the README names %s, which does not exist", name)
			}
		}
	}
	if rows < 15 {
		t.Errorf("only %d deviations found", rows)
	}
}
