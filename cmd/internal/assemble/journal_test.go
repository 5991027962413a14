package assemble

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// two resolves a mount of two branches, "a" and "b", with --write=back.
func two(t *testing.T, branches []string, args ...string) *settings.Config {
	t.Helper()
	in := settings.Input{Branches: branches, Dir: "/"}
	for _, arg := range append(args, "write=back") {
		name, text, _ := strings.Cut(arg, "=")
		o, ok := settings.Lookup(name)
		if !ok {
			t.Fatalf("no option %s", name)
		}
		in.Flags = append(in.Flags, settings.Given{Option: o, Text: text, Where: "--" + name})
	}
	config, err := settings.Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

var different = []string{"a=davs://me@h/p", "b=davs://me@h/q"}

// openJournal opens the journal below dir and has it closed.
func openJournal(t *testing.T, config *settings.Config, dir string) error {
	t.Helper()
	store, err := OpenJournal(config, dir, "host", quiet)
	if err == nil {
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return err
}

func TestJournalIsOpened(t *testing.T) {
	dir := t.TempDir()
	config := two(t, different, "staging-size=8MiB", "read-only=b=true")
	if !WritesBack(config) {
		t.Error("nothing is written back")
	}
	if err := openJournal(t, config, dir); err != nil {
		t.Fatal(err)
	}
	if got := pending.LoadNames(dir); len(got) != 1 || got[Tree(&config.Branches[0])] != "/a" {
		t.Errorf("%v", got)
	}
	if st, err := os.Stat(pending.Dir(dir)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	err := openJournal(t, config, dir)
	if exit.CodeOf(err) != exit.CacheBusy || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("%v", err)
	}
	for _, c := range []*settings.Config{two(t, different, "read-only=true"), resolve(t, "write=through")} {
		if WritesBack(c) {
			t.Errorf("%+v", c)
		}
	}
}

func TestJournalThatCannotBeHad(t *testing.T) {
	inTheWay, open := t.TempDir(), t.TempDir()
	if err := os.WriteFile(pending.Dir(inTheWay), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(pending.Dir(open), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pending.Dir(open), 0o777); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{inTheWay: "is not a directory", open: "can be changed by others", "/proc": "/proc/pending"} {
		err := openJournal(t, two(t, different), dir)
		if exit.CodeOf(err) != exit.CacheBad || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "; with --write=through nothing is kept here") {
			t.Errorf("%s: %v; want %s", dir, err, want)
		}
	}
	same := []string{"a=davs://me@h/p", "b=davs://me@h/p"}
	if err := openJournal(t, two(t, same), t.TempDir()); exit.CodeOf(err) != exit.Config || !strings.Contains(err.Error(), "are the same collection") {
		t.Errorf("%v", err)
	}
	if err := openJournal(t, two(t, []string{"a=davs://me@h/p", "b=davs://you@h/p"}), t.TempDir()); err != nil {
		t.Errorf("the same for two users: %v", err)
	}
}

func TestStagingFits(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * st.Bsize
	got, err := FitStaging(two(t, different, "staging-size=1000TiB", "staging-reserve=0"), dir)
	if err != nil || got.Size != 1000<<40 || got.Reserve != 0 {
		t.Errorf("what was given: %+v, %v", got, err)
	}
	got, err = FitStaging(two(t, different), dir)
	if err != nil || got.Size > 10<<30 || got.Size > free || got.Reserve > 256<<20 || got.Reserve > free/4 {
		t.Errorf("defaults with %d free: %+v, %v", free, got, err)
	}
	much := two(t, different, "staging-reserve=1000TiB")
	if _, err := FitStaging(much, dir); err == nil || !strings.Contains(err.Error(), "--staging-reserve leaves 1000TiB") {
		t.Errorf("%v", err)
	}
	// What an earlier mount has left is uploaded all the same.
	staging := filepath.Join(pending.Dir(dir), "staging")
	if err := os.MkdirAll(staging, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(staging, "stage-1"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := FitStaging(much, dir); err != nil {
		t.Error(err)
	}
	if _, err := FitStaging(much, filepath.Join(dir, "none")); err == nil {
		t.Error("no error without a directory")
	}
}

// TestStagingIsWhereTheStoreHasIt, or a full disk would keep what is left from being uploaded.
func TestStagingIsWhereTheStoreHasIt(t *testing.T) {
	dir := t.TempDir()
	if err := openJournal(t, two(t, different), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(pending.Dir(dir), "staging")); err != nil {
		t.Error(err)
	}
}

func TestEarlyUploadFitsTheStaging(t *testing.T) {
	config := two(t, different, "staging-size=8MiB")
	config.StagingSize = 4 * settings.MiB // as if the disk had no more
	if err := openJournal(t, config, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	p := WritePolicy(&config.Branches[1], config.Umask, nil)
	if p.Early != 2<<20 || p.Name != "/b" || p.Tree != Tree(&config.Branches[1]) || p.Workers != 16 || p.Delay.Seconds() != 1 || p.Prime != nil {
		t.Errorf("%+v", p)
	}
}

// TestPlacesLeaveSomeToReaders: uploads and what sends no content do not take all connections.
func TestPlacesLeaveSomeToReaders(t *testing.T) {
	for _, want := range []struct {
		connections    string
		workers, calls int
	}{{"64", 16, 36}, {"32", 16, 12}, {"16", 16, 0}, {"4", 4, 0}} {
		p := WritePolicy(&two(t, different, "max-connections="+want.connections).Branches[1], 0o022, nil)
		if p.Workers != want.workers || p.Calls != want.calls {
			t.Errorf("%s connections: %d uploads and %d calls, want %d and %d", want.connections, p.Workers, p.Calls, want.workers, want.calls)
		}
	}
}

func TestWaitingChanges(t *testing.T) {
	for want, now := range map[string]writeback.Status{
		"": {Branches: []writeback.BranchStatus{{Mounted: true, Pending: 7}}},
		"5 changes of an earlier mount could not be stored; see: meshmount status /mnt": {
			Branches: []writeback.BranchStatus{{Mounted: true, Parked: 2}, {Mounted: true, Parked: 3}}},
		"changes wait for a tree that is not mounted here: 4 for davs://h/x as me; see: meshmount status /mnt": {
			Branches: []writeback.BranchStatus{{Tree: "davs://h/x as me", Pending: 4}}},
		"the journal of an earlier mount is damaged: bits; see: meshmount status /mnt": {Damage: "bits"},
	} {
		if got := Waiting(&now, "/mnt"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
