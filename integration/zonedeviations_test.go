package integration_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// The tests here show what differs on iRODS zones, on mounts of the built program; the
// README's table names them.

// TestZoneLocked reads and writes what somebody else is writing: there is no old content
// to be had meanwhile.
func TestZoneLocked(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, other := filepath.Join(dir, "file"), b.client("bob")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	desc, err := other.open("file", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.ReadFile(file)
	wantErrno(t, "read", err, syscall.EBUSY)
	wantErrno(t, "overwrite", os.WriteFile(file, []byte("ours"), 0o644), syscall.EBUSY)
	wantErrno(t, "rename", os.Rename(file, file+"2"), syscall.EBUSY)
	wantErrno(t, "remove", os.Remove(file), syscall.EBUSY)
	if names := listNames(t, dir); !slices.Contains(names, "file") {
		t.Errorf("the listing shows %q", names)
	}
	if err := errors.Join(other.write(desc, "theirs"), other.close(desc)); err != nil {
		t.Fatal(err)
	}
	wantContent(t, file, "theirs")
}

// TestZoneUnfinished looks at what another client is still uploading: the catalog has no
// size yet, but it is not taken for an empty file.
func TestZoneUnfinished(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, other := filepath.Join(dir, "file"), b.client("bob")
	desc, err := other.open("file", wire.OpenCreate)
	if err := errors.Join(err, other.write(desc, "half of it")); err != nil {
		t.Fatal(err)
	}
	_, err = os.ReadFile(file)
	wantErrno(t, "read", err, syscall.EBUSY)
	if err := errors.Join(other.write(desc, ", all of it"), other.close(desc)); err != nil {
		t.Fatal(err)
	}
	wantContent(t, file, "half of it, all of it")
}

// atSecondWrite closes reached when the second piece of an object has come to the server,
// and hangs up when dead is closed.
func (b deviant) atSecondWrite(reached, dead chan struct{}) {
	var writes atomic.Int32
	b.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API != wire.APIDataObjWrite || writes.Add(1) != 2 {
			return nil
		}
		close(reached)
		<-dead
		return &zone.Fault{Kill: true}
	})
}

// TestZoneTorn kills the program in the middle of overwriting large objects: what is left
// is never taken for content, and can be written again or removed.
func TestZoneTorn(t *testing.T) {
	b := startDeviant(t)
	m, dir := b.mount()
	large := bytes.Repeat([]byte("0123456789abcdef"), 9<<20/16)
	for name, less := range map[string]int{"same size": 0, "shorter": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), large, 0o644); err != nil {
			t.Fatal(err)
		}
		m, dir = b.killed(m, filepath.Join(dir, name), bytes.ToUpper(large[less:]))
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		// One that is to be shorter was cut at its opening: the catalog has no bytes of it.
		_, err := os.ReadFile(file)
		wantErrno(t, "read "+name, err, syscall.EIO)
		if err := os.WriteFile(file, large, 0o644); err != nil {
			t.Fatal(err)
		}
		wantContent(t, file, string(large))
		m, dir = b.killed(m, file, bytes.ToUpper(large))
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	m.MustUnmount(t)
}

// killed kills the program when the zone has got the first piece of new content for a
// file, and returns a new mount.
func (b deviant) killed(m *harness.Mount, file string, content []byte) (*harness.Mount, string) {
	reached, dead := make(chan struct{}), make(chan struct{})
	b.atSecondWrite(reached, dead)
	var writer sync.WaitGroup
	writer.Go(func() { _ = os.WriteFile(file, content, 0o644) }) // it is killed
	<-reached
	m.Kill()
	b.SetFaults(nil)
	close(dead)
	writer.Wait()
	return b.mount()
}

// TestZoneSmallOverwrite kills the program while it overwrites an object of 4 MiB, which
// is one request.
func TestZoneSmallOverwrite(t *testing.T) {
	b := startDeviant(t)
	m, dir := b.mount()
	file, small := filepath.Join(dir, "file"), bytes.Repeat([]byte("small"), 4<<20/5)
	if err := os.WriteFile(file, small, 0o644); err != nil {
		t.Fatal(err)
	}
	b.ResetCalls()
	if err := os.WriteFile(file, bytes.ToUpper(small), 0o644); err != nil {
		t.Fatal(err)
	}
	if calls := b.Calls(); calls[wire.APIDataObjPut] != 1 || calls[wire.APIDataObjOpen] != 0 || calls[wire.APIDataObjWrite] != 0 {
		t.Errorf("calls of an overwrite: %v", calls)
	}
	reached, dead := make(chan struct{}), make(chan struct{})
	b.SetFaults(func(c zone.Call) *zone.Fault {
		if c.API != wire.APIDataObjPut {
			return nil
		}
		close(reached)
		<-dead
		return &zone.Fault{Kill: true}
	})
	var writer sync.WaitGroup
	writer.Go(func() { _ = os.WriteFile(file, small, 0o644) }) // it is killed
	<-reached
	m.Kill()
	close(dead)
	writer.Wait()
	b.SetFaults(nil)
	_, dir = b.mount()
	wantContent(t, filepath.Join(dir, "file"), string(bytes.ToUpper(small)))
}

// TestZoneTornByOthers lets another client die while it changes an object in place.
func TestZoneTornByOthers(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, other := filepath.Join(dir, "file"), b.client("bob")
	if err := os.WriteFile(file, []byte("old content"), 0o644); err != nil {
		t.Fatal(err)
	}
	desc, err := other.open("file", 0)
	if err := errors.Join(err, other.write(desc, "new"), other.Close()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() error {
		if rows := b.client("alice").rows("file", wire.ColReplStatus); rows[0][0] != "0" {
			return errors.New("the replica is not stale yet")
		}
		return nil
	})
	_, err = os.ReadFile(file)
	wantErrno(t, "read", err, syscall.EIO)
	if err := os.WriteFile(file, []byte("whole again"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantContent(t, file, "whole again")
}

// TestZoneReplace renames over an object: the name gets the other object with all that
// the catalog has of it.
func TestZoneReplace(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	client := b.client("alice")
	for _, name := range []string{"old", "new"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, []byte(name), 0o644), unix.Setxattr(file, "user.irods.of", []byte(name), 0)); err != nil {
			t.Fatal(err)
		}
	}
	id := client.rows("new", wire.ColDataID)
	b.ResetCalls()
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if n := b.Calls()[wire.APIDataObjRename]; n != 1 {
		t.Errorf("%d requests to rename", n)
	}
	if got := client.rows("old", wire.ColDataID); len(got) != 1 || got[0][0] != id[0][0] {
		t.Errorf("the name has the object %q, not %q", got, id)
	}
	if got := client.avus("old"); !slices.Equal(got, []string{"of=new"}) {
		t.Errorf("AVUs %q", got)
	}
	wantContent(t, filepath.Join(dir, "old"), "new")
	// An overwrite is in place: it keeps all that.
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("overwritten"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := client.rows("old", wire.ColDataID); got[0][0] != id[0][0] || len(client.avus("old")) != 1 {
		t.Errorf("after an overwrite the object is %q, AVUs %q", got, client.avus("old"))
	}
}

// between does something once, just before the zone carries out a call of alice's. What
// it returns ends that and makes sure that it was done.
func (b deviant) between(api int, do func() error) (done func()) {
	var once sync.Once
	result := make(chan error, 1)
	b.SetFaults(func(c zone.Call) *zone.Fault {
		if c.User == "alice" && c.API == api {
			once.Do(func() { result <- do() })
		}
		return nil
	})
	return func() {
		b.t.Helper()
		b.SetFaults(nil)
		select {
		case err := <-result:
			if err != nil {
				b.t.Error(err)
			}
		default:
			b.t.Error("there was no such call")
		}
	}
}

// TestZoneGuards changes an object just before meshmount looks at it, which is a conflict,
// and just after, which nobody notices.
func TestZoneGuards(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, other := filepath.Join(dir, "file"), b.client("bob")
	if err := os.WriteFile(file, []byte("base"), 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.WriteString("ours, too late"); err != nil {
		t.Fatal(err)
	}
	if err := other.put("file", "theirs"); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, "close", open.Close(), syscall.ESTALE)
	wantContent(t, file, "theirs")
	if names := listNames(t, dir); len(names) != 2 || !strings.HasPrefix(names[1], "file.conflict-") {
		t.Errorf("the collection has %q", names)
	}
	between := b.between(wire.APIDataObjPut, func() error { return other.put("file", "theirs again") })
	if err := os.WriteFile(file, []byte("ours"), 0o644); err != nil {
		t.Error(err)
	}
	between()
	wantContent(t, file, "ours")
	if names := listNames(t, dir); len(names) != 2 {
		t.Errorf("the collection has %q", names)
	}
}

// TestZoneGuardOfLarge changes a large object just after meshmount has looked at it and
// before it has locked it.
func TestZoneGuardOfLarge(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, other := filepath.Join(dir, "file"), b.client("bob")
	large := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	if err := os.WriteFile(file, large, 0o644); err != nil {
		t.Fatal(err)
	}
	between := b.between(wire.APIDataObjOpen, func() error { return other.put("file", "theirs") })
	wantErrno(t, "overwrite", os.WriteFile(file, bytes.ToUpper(large), 0o644), syscall.ESTALE)
	between()
	wantContent(t, file, "theirs")
	if names := listNames(t, dir); len(names) != 2 || !strings.HasPrefix(names[1], "file.conflict-") {
		t.Errorf("the collection has %q", names)
	}
}

// TestZoneAttributes looks at what the catalog has no place for.
func TestZoneAttributes(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, link, client := filepath.Join(dir, "file"), filepath.Join(dir, "link"), b.client("bob")
	at := time.Unix(1_700_000_000, 900_000_000)
	err := errors.Join(os.WriteFile(file, []byte("text"), 0o644), os.Chmod(file, 0o750), os.Chtimes(file, at, at), os.Symlink("file", link))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || !info.ModTime().Equal(at.Truncate(time.Second)) || info.Mode() != 0o750 {
		t.Errorf("time %v, mode %v, %v", info.ModTime(), info.Mode(), err)
	}
	wantErrno(t, "link", os.Link(file, file+"2"), syscall.EPERM)
	if rows, avus := client.rows("file", wire.ColDataMode), client.avus("file"); rows[0][0] != "420" || !slices.Equal(avus, []string{"meshmount:mode=0750"}) {
		t.Errorf("others see mode %s, AVUs %q", rows[0][0], avus)
	}
	if rows, avus := client.rows("link", wire.ColDataSize), client.avus("link"); rows[0][0] != "0" || !slices.Equal(avus, []string{"meshmount:symlink=file"}) {
		t.Errorf("others see an object of %s bytes, AVUs %q", rows[0][0], avus)
	}
	wantContent(t, link, "text")
}

// TestZoneAVUs reads and writes AVUs as extended attributes.
func TestZoneAVUs(t *testing.T) {
	b := startDeviant(t)
	_, dir := b.mount()
	file, client := filepath.Join(dir, "file"), b.client("alice")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	const name = "user.irods.temperature"
	for _, step := range []struct {
		text string
		want error
		avus []string
	}{
		{"20\tdegC", nil, []string{"temperature=20 degC"}},
		{"20\tdegC\n25\tdegC\nunknown", nil, []string{"temperature=20 degC", "temperature=25 degC", "temperature=unknown"}},
		{"b\na", syscall.EINVAL, nil}, {"a\na", syscall.EINVAL, nil}, {"", syscall.EINVAL, nil}, {"a\n", syscall.EINVAL, nil},
		{"a\t", syscall.EINVAL, nil}, {"\xff", syscall.EINVAL, nil}, {strings.Repeat("a", 2701), syscall.EINVAL, nil},
		{"cold", nil, []string{"temperature=cold"}},
	} {
		if err := unix.Setxattr(file, name, []byte(step.text), 0); err != step.want {
			t.Errorf("set to %.20q: %v", step.text, err)
		}
		if got := client.avus("file"); step.avus != nil && !slices.Equal(got, step.avus) {
			t.Errorf("set to %q, the catalog has %q", step.text, got)
		}
	}
	client.must(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-d", b.home + "/file", "temperature", "30", "K"}})
	value := make([]byte, 100)
	if n, err := unix.Getxattr(file, name, value); err != nil || string(value[:n]) != "30\tK\ncold" {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
	wantErrno(t, "in a share", unix.Setxattr(b.share(), name, []byte("v"), 0), syscall.EOPNOTSUPP)
	wantErrno(t, "of others", unix.Setxattr(file, "user.mine", []byte("v"), 0), syscall.EOPNOTSUPP)
	wantErrno(t, "of meshmount", unix.Setxattr(file, "user.meshmount.state", []byte("v"), 0), syscall.EOPNOTSUPP)
	if err := errors.Join(unix.Setxattr(dir, name, []byte("v"), 0), unix.Removexattr(dir, name), unix.Removexattr(file, name)); err != nil {
		t.Error(err)
	}
	if got := client.avus("file"); len(got) != 0 {
		t.Errorf("the catalog still has %q", got)
	}
}

// share returns a file on another mount, of a share.
func (b deviant) share() string {
	b.t.Helper()
	s := startEFSS(b.t, efss.Nextcloud)
	file := filepath.Join(harness.Mounting(b.t, s.env, s.args...).Dir, "a", "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// TestZoneTrash looks for what is removed and replaced in the trash.
func TestZoneTrash(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b := startDeviant(t)
		options := map[bool][]string{true: {"--irods-trash"}}[keep]
		m, dir := b.mount(options...)
		for _, name := range []string{"removed", "overwritten", "replaced", "replacing", "tree/inside"} {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("old"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		err := errors.Join(os.Remove(filepath.Join(dir, "removed")), os.RemoveAll(filepath.Join(dir, "tree")),
			os.WriteFile(filepath.Join(dir, "overwritten"), []byte("new"), 0o644),
			os.Rename(filepath.Join(dir, "replacing"), filepath.Join(dir, "replaced")))
		if err != nil {
			t.Error(err)
		}
		m.MustUnmount(t)
		for name, kept := range map[string]bool{"removed": keep, "tree/inside": keep, "overwritten": false, "replaced": false} {
			trash := "/" + b.Name() + "/trash/home/alice/" + name
			if rows := b.client("alice").rows(trash, wire.ColDataID); len(rows) == 1 != kept {
				t.Errorf("with --irods-trash %v: %s is %d times in the trash", keep, name, len(rows))
			}
		}
	}
}
