package irods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// told are words in the names of codes that say which kind they must be, in the order in
// which they count.
var told = []struct {
	word string
	kind remote.Kind
}{
	{"CROSS_ZONE_MV", remote.CrossDevice}, {"TICKET", remote.Permission}, {"QUOTA", remote.NoSpace}, {"NO_ACCESS", remote.Permission}, {"ACCESS_DENIED", remote.Permission},
	{"NOT_EMPTY", remote.NotEmpty}, {"CHKSUM_MISMATCH", remote.Corrupt}, {"LOCKED_DATA", remote.Locked},
	{"OBJ_PATH_DOES_NOT_EXIST", remote.NotExist}, {"UNKNOWN_COLLECTION", remote.NotExist}, {"SOCK_READ", remote.Unavailable},
	{"SOCK_CONNECT", remote.Unavailable}, {"PASSWORD_EXPIRED", remote.Auth}, {"NOT_SUPPORTED", remote.Unsupported},
	{"ALREADY_HAS", remote.Exist}, {"EXISTS_AS_DATAOBJ", remote.Exist},
	{"EXISTS_AS_COLLECTION", remote.IsDir},
}

// elsewhere are parts of names of codes that are not about what an adapter does.
var elsewhere = []string{
	"GSI_", "KRB_", "RE_", "PHP_", "NETCDF_", "OOI_", "HPSS_", "HDFS_", "WOS_", "S3_", "MSSO_", "TAR_", "PAM_AUTH_NOT", "OSAUTH", "BUNDLE",
	"RESC_DOES", "DIR_IN_VAULT", "RESOURCE_NOT_EMPTY", "SYS_COLLECTION_NOT_EMPTY", "ZIP_", "ARCH_", "UDP_", "TYPE_NOT_SUPPORTED", "AUTH_NOT",
	"ADVANCED_NEGOTIATION", "OOI", "EMPTY_IN_STRUCT", "LOCAL_FILE", "SPECIFIC_QUERY", "SERVICE_ROLE", "TABLE_ACCESS",
}

// TestKinds goes through all codes that there are: each has a kind by itself and with an
// errno, and those whose names say enough have the right one.
func TestKinds(t *testing.T) {
	known := remote.Kinds()
	for c, name := range wire.Codes() {
		kind := kindOf(&wire.Error{Code: c})
		if !slices.Contains(known, kind) {
			t.Errorf("%s is of the kind %d", name, kind)
		}
		if slices.ContainsFunc(elsewhere, func(part string) bool { return strings.Contains(name, part) }) {
			continue
		}
		for _, x := range told {
			if strings.Contains(name, x.word) {
				if kind != x.kind && c != wire.CodeHomeNotEmpty {
					t.Errorf("%s (%d) is %q, want %q", name, c, kind, x.kind)
				}
				break
			}
		}
	}
	for kind, codes := range kindCodes {
		for _, c := range codes {
			if wire.Codes()[c] == "" {
				t.Errorf("%d is in the table and no code", c)
			}
			if got := kindOf(&wire.Error{Code: c}); got != kind {
				t.Errorf("%s is %q and %q", wire.CodeName(c), kind, got)
			}
		}
	}
	for errno, kind := range errnoKinds {
		for _, base := range []int{wire.CodeUnixOpen, wire.CodeUnixCreate, wire.CodeUnixWrite, wire.CodeUnixMkdir} {
			if got := kindOf(&wire.Error{Code: base - int(errno)}); got != kind {
				t.Errorf("%v on storage is %q, want %q", errno, got, kind)
			}
		}
	}
	if got := kindOf(&wire.Error{Code: wire.CodeUnixRead - int(syscall.ELOOP)}); got != remote.Other {
		t.Errorf("what nobody knows is %q", got)
	}
}

// TestServersRefusals has the server answer each code that has a kind to a few calls: the
// kind comes through, the connection lives, and nothing is in doubt.
func TestServersRefusals(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	put(t, b, "/f", "content", fresh)
	logins := z.Logins()
	for kind, codes := range kindCodes {
		for _, c := range codes {
			if c == wire.CodeNoRows {
				continue // is an answer
			}
			refuse := func(api int) {
				z.SetFaults(func(call zone.Call) *zone.Fault {
					if call.API == api {
						return &zone.Fault{Code: c}
					}
					return nil
				})
			}
			refuse(wire.APIGenQuery)
			_, err := b.Stat(t.Context(), "/f")
			wantKind(t, err, kind, "stat with %s", wire.CodeName(c))
			refuse(wire.APIDataObjUnlink)
			err = b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File})
			wantKind(t, err, kind, "remove with %s", wire.CodeName(c))
			if unsure(err) {
				t.Errorf("remove with %s is in doubt", wire.CodeName(c))
			}
		}
	}
	z.SetFaults(nil)
	if z.Logins() != logins {
		t.Errorf("%d connections were made", z.Logins()-logins)
	}
}

// TestNothingToOpen has the server say that no replica can be opened, which it does for
// an object that is written, and for one whose storage is down.
func TestNothingToOpen(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	e := put(t, b, "/f", "content", fresh)
	down := func(c zone.Call) *zone.Fault {
		switch c.API {
		case wire.APIDataObjOpen, wire.APIDataObjPut, wire.APIDataObjGet:
			return &zone.Fault{Code: wire.CodeHierarchy}
		}
		return nil
	}
	check := func(what string, want remote.Kind) {
		t.Helper()
		_, err := b.Put(t.Context(), "/f", text("other"), remote.PutOptions{})
		wantKind(t, err, want, "overwrite while %s", what)
		if unsure(err) {
			t.Errorf("overwrite while %s is in doubt: %v", what, err)
		}
		_, err = b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, make([]byte, e.Size), 0)
		wantKind(t, err, want, "read while %s", what)
	}
	z.SetFaults(down)
	check("storage is down", remote.Unavailable)
	_, err := b.Put(t.Context(), "/new", text("content"), fresh)
	wantKind(t, err, remote.Unavailable, "a new file while storage is down")
	z.SetFaults(nil)
	alice := connect(t, z, "alice")
	desc := alice.open(b.full("/f"), wire.OpenWriteOnly)
	check("somebody writes", remote.Locked)
	alice.close(desc)
	if got := contentOf(t, b, "/f"); got != "content" {
		t.Errorf("it holds %q", got)
	}
}

// TestEndedContext gives the errors of an ended context as they are.
func TestEndedContext(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	cause := &remote.Error{Op: "watch", Kind: remote.Unavailable, Err: errors.New("no progress")}
	for want, end := range map[error]func() context.Context{
		context.Canceled: func() context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx
		},
		cause: func() context.Context {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(cause)
			return ctx
		},
	} {
		if _, err := b.Stat(end(), "/"); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// TestSourceFails has the source of a Put fail: nothing is left, the error says so, and it
// is not taken for the server's.
func TestSourceFails(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	broken := errors.New("disk on fire")
	for _, size := range []int64{10, pieceSize + 10} {
		_, err := b.Put(t.Context(), "/f", failing{size, broken}, fresh)
		if !errors.Is(err, broken) || remote.Retryable(err) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if all := names(t, b, "/"); len(all) != 0 {
			t.Errorf("%d bytes: left are %v", size, all)
		}
	}
}

// failing is a Source that fails after half of its bytes.
type failing struct {
	size int64
	err  error
}

func (s failing) Size() int64 { return s.size }
func (s failing) Open() (io.ReadCloser, error) {
	half := strings.NewReader(strings.Repeat("x", int(s.size/2)))
	return io.NopCloser(io.MultiReader(half, errReader{s.err})), nil
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, fmt.Errorf("read: %w", r.err) }

// TestMadeButUnseen has the look after a change refused: the change is in doubt, and Retry
// finds out that it has been made.
func TestMadeButUnseen(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	blind := func() { // for the first look after a change
		made, looked := false, false
		var mu sync.Mutex
		z.SetFaults(func(c zone.Call) *zone.Fault {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case c.API == wire.APICollCreate || c.API == wire.APIModAVUMetadata:
				made = true
			case c.API == wire.APIGenQuery && made && !looked:
				looked = true
				return &zone.Fault{Code: wire.CodeLibrary}
			}
			return nil
		})
	}
	blind()
	_, err := b.Mkdir(t.Context(), "/d")
	wantKind(t, err, remote.Unavailable, "mkdir")
	if !unsure(err) {
		t.Errorf("not in doubt: %v", err)
	}
	patient := remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond})
	blind()
	if e, err := patient.Mkdir(t.Context(), "/e"); err != nil || e.Type != remote.Dir {
		t.Errorf("%+v, %v", e, err)
	}
	blind()
	linker, _ := remote.As[remote.Symlinker](patient)
	if e, err := linker.Symlink(t.Context(), "/l", "target"); err != nil || e.Target != "target" {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestParentAppears has somebody make the collection just after the server has said that it
// is not there: a query shows it, and the next attempt goes well. One that stays hidden from
// calls is not for us.
func TestParentAppears(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d")
	z.SetFaults(func(c zone.Call) *zone.Fault {
		switch c.API {
		case wire.APICollCreate, wire.APIDataObjOpen, wire.APIDataObjPut:
			return &zone.Fault{Code: wire.CodeUnknownCollection}
		}
		return nil
	})
	_, err := b.Mkdir(t.Context(), "/d/e")
	wantKind(t, err, remote.Unavailable, "mkdir in what has just appeared")
	if unsure(err) {
		t.Errorf("it is in doubt: %v", err)
	}
	_, err = b.Put(t.Context(), "/d/f", text("content"), fresh)
	wantKind(t, err, remote.Unavailable, "put into what has just appeared")
	_, err = b.Put(t.Context(), "/d/f", text("content"), fresh)
	wantKind(t, err, remote.Permission, "put into what is there and is hidden")
	_, err = b.Mkdir(t.Context(), "/d/e")
	wantKind(t, err, remote.Permission, "mkdir in what is there and is hidden")
}
