package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
)

// A listing with attributes is all that `ls -l` and find need: no entry is looked up
// or asked for its attributes after it.
func TestListingIsEnough(t *testing.T) {
	const files = 1000
	c := mountCounted(t, time.Hour, Options{}, nil)
	if _, err := c.back.Mkdir(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		c.put(t, fmt.Sprintf("/d/file-%d", i), strings.Repeat("x", i))
	}
	for round := range 2 {
		c.lookups.Store(0)
		c.getattrs.Store(0)
		entries, err := os.ReadDir(c.dir + "/d")
		if err != nil || len(entries) != files {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		for _, e := range entries {
			var n int
			if _, err := fmt.Sscanf(e.Name(), "file-%d", &n); err != nil {
				t.Fatal(err)
			}
			if st, err := os.Lstat(c.dir + "/d/" + e.Name()); err != nil || st.Size() != int64(n) {
				t.Fatalf("%s: %v, %v", e.Name(), st, err)
			}
		}
		if n := c.lookups.Load(); n > 1 { // of the directory itself, once
			t.Errorf("round %d: %d lookups", round, n)
		}
		if n := c.getattrs.Load(); n > 2 { // of the directories, as their listing changes their times of access
			t.Errorf("round %d: attributes were asked for %d times", round, n)
		}
	}
	if c.plain.Load() != 0 || c.listings.Load() == 0 {
		t.Errorf("%d listings with attributes, %d without", c.listings.Load(), c.plain.Load())
	}
}

// meeting lets those who call its meet go on when so many have come.
type meeting struct {
	sync.Mutex
	missing int
	full    chan struct{}
}

func newMeeting(n int) *meeting { return &meeting{missing: n, full: make(chan struct{})} }

// meet returns whether the others have come.
func (m *meeting) meet() bool {
	m.Lock()
	if m.missing--; m.missing == 0 {
		close(m.full)
	}
	m.Unlock()
	select {
	case <-m.full:
		return true
	case <-time.After(4 * time.Minute):
		return false
	}
}

// Lookups and listings of one directory are under way at the same time.
func TestParallelDirectory(t *testing.T) {
	const each = 4
	met := newMeeting(2 * each)
	c := mountCounted(t, time.Minute, Options{}, func(c *counter) {
		c.gate = func(what string) {
			if what == "list" || strings.HasPrefix(what, "lookup f") {
				if !met.meet() {
					t.Errorf("%q is alone: the kernel does not let others in", what)
				}
			}
		}
	})
	for i := range each {
		c.put(t, fmt.Sprint("/f", i), "x")
	}
	var all sync.WaitGroup
	for i := range each {
		all.Go(func() {
			if _, err := os.Lstat(fmt.Sprint(c.dir, "/f", i)); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			// One answer holds all, and the last one says that there is no more.
			if names, err := os.ReadDir(c.dir); err != nil || len(names) != each {
				t.Errorf("%d names, %v", len(names), err)
			}
		})
	}
	all.Wait()
}

// Notes that come while the kernel holds the locks that it needs to take them are
// taken when it can, and nothing waits for ever: here a name is forgotten while its
// lookup is under way, and that lookup ends only when the note was given.
func TestInvalidateDuringLookup(t *testing.T) {
	given := make(chan struct{})
	c := mountCounted(t, time.Minute, Options{}, func(c *counter) {
		c.gate = func(what string) {
			if what == "lookup f" {
				for range 100 {
					c.tell.note(fs.Invalidation{Path: "/f", Entry: true})
				}
				close(given)
				// The one that passes notes on is now held up by this very lookup. Others
				// must be answered all the same.
				var out fuse.AttrOut
				if st := c.raw.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(fuse.FUSE_ROOT_ID)}, &out); st != fuse.OK {
					t.Error(st)
				}
			}
		}
	})
	c.put(t, "/f", "x")
	if _, err := os.Lstat(c.dir + "/f"); err != nil {
		t.Error(err)
	}
	<-given
}

// Ten thousand notes about files and names that are in use at the same time.
func TestInvalidateUnderLoad(t *testing.T) {
	const files, notes = 50, 10_000
	c := mountCounted(t, time.Minute, Options{}, nil)
	text := pattern(200_000)
	var inos [files]uint64
	for i := range files {
		path := fmt.Sprint("/f", i)
		c.put(t, path, text)
		a, err := c.fs.Stat(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		inos[i] = a.Ino
	}
	over := make(chan struct{})
	var users sync.WaitGroup
	for u := range 4 {
		users.Go(func() { use(t, c.dir, files, u, text, over) })
	}
	for i := range notes {
		k := i % files
		c.tell.note(fs.Invalidation{Path: fmt.Sprint("/f", k), Ino: inos[k], Content: true, Entry: i%2 == 0})
		if i%100 == 0 { // so that they are not all the same ones, noted once
			until(t, "the notes are passed on", func() bool { return c.tell.pending() == 0 })
		}
	}
	until(t, "all notes are passed on", func() bool { return c.tell.pending() == 0 })
	close(over)
	users.Wait()
}

// pending returns how many notes the kernel has yet to take.
func (n *notifier) pending() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.notes) + len(n.passing)
}

// use reads and lists files of dir until it is over.
func use(t *testing.T, dir string, files, first int, want string, over <-chan struct{}) {
	for i := first; ; i++ {
		select {
		case <-over:
			return
		default:
		}
		if got, err := os.ReadFile(fmt.Sprint(dir, "/f", i%files)); err != nil || string(got) != want {
			t.Errorf("read %d bytes, %v", len(got), err)
			return
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != files {
			t.Errorf("%d names, %v", len(names), err)
			return
		}
	}
}

// Programs that ask each file for security labels and access lists are told that
// there are none anywhere, so that ls -l asks once and not for each file.
func TestForeignXattrs(t *testing.T) {
	c := mountCounted(t, time.Minute, Options{}, nil)
	for i := range 20 {
		c.put(t, fmt.Sprint("/f", i), "x")
	}
	for _, name := range []string{"security.selinux", "security.capability", "system.posix_acl_access", "system.posix_acl_default"} {
		if _, err := getX(c.dir+"/f1", name); !errors.Is(err, syscall.ENOTSUP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := getX(c.dir+"/f1", "user.nothing"); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("an attribute that a file could have: %v", err)
	}
	c.xattrs.Store(0)
	if out, err := exec.Command("ls", "-l", c.dir).CombinedOutput(); err != nil || strings.Count(string(out), "\n") < 20 {
		t.Errorf("ls: %v\n%s", err, out)
	}
	if n := c.xattrs.Load(); n >= 20 {
		t.Errorf("ls -l of 20 files asks for %d attributes", n)
	}
}
