package integration_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// deviant is a zone in which alice's home is the branch a; bob may do there what she may.
type deviant struct {
	*zone.Zone
	t    *testing.T
	home string
}

func startDeviant(t *testing.T) deviant {
	t.Helper()
	z := startZone(t, zone.Options{})
	b := deviant{z, t, z.Home("alice")}
	alice := b.client("alice")
	alice.must(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: "own", User: "bob", Zone: z.Name(), Path: b.home})
	alice.must(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: "inherit", Path: b.home})
	return b
}

// mount mounts the branch, so that what others do is seen and errors come soon, and
// returns its directory.
func (b deviant) mount(options ...string) (*harness.Mount, string) {
	b.t.Helper()
	args := []string{"a=" + zoneURL(b.Zone, b.Addr(), "alice"), "--attr-ttl=0", "--dir-ttl=0", "--negative-ttl=0", "--retry-time=1s"}
	m := harness.Mounting(b.t, []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret}, append(args, options...)...)
	return m, filepath.Join(m.Dir, "a")
}

// otherClient is a client of the zone that is not meshmount.
type otherClient struct {
	*wire.Conn
	b deviant
}

func (b deviant) client(user string) otherClient {
	b.t.Helper()
	return otherClient{zoneClient(b.t, b.Zone, user), b}
}

// call makes a call. It is for any goroutine.
func (c otherClient) call(api int, in wire.Message, data []byte) (int, error) {
	reply, err := c.Call(context.Background(), &wire.Call{API: api, In: in, Data: data})
	return reply.Status, err
}

func (c otherClient) must(api int, in wire.Message) int {
	c.b.t.Helper()
	status, err := c.call(api, in, nil)
	if err != nil {
		c.b.t.Fatalf("%s: %v", wire.APIName(api), err)
	}
	return status
}

// open opens or makes an object of the branch to write it, which locks it.
func (c otherClient) open(name string, flags int) (desc int, err error) {
	return c.call(wire.APIDataObjOpen, &wire.DataObjInp{Path: c.b.home + "/" + name, CreateMode: 0o600,
		OpenFlags: wire.OpenWriteOnly | flags, DataSize: -1}, nil)
}

func (c otherClient) write(desc int, content string) error {
	_, err := c.call(wire.APIDataObjWrite, &wire.OpenedDataObjInp{Desc: desc, Len: len(content)}, []byte(content))
	return err
}

func (c otherClient) close(desc int) error {
	_, err := c.call(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: desc}, nil)
	return err
}

// put makes or overwrites an object.
func (c otherClient) put(name, content string) error {
	desc, err := c.open(name, wire.OpenCreate|wire.OpenTruncate)
	if err != nil {
		return err
	}
	return errors.Join(c.write(desc, content), c.close(desc))
}

// rows asks the catalog about an object, given by its path in the zone or the branch.
func (c otherClient) rows(name string, columns ...int) [][]string {
	c.b.t.Helper()
	if !strings.HasPrefix(name, "/") {
		name = c.b.home + "/" + name
	}
	dir, base := filepath.Split(name)
	in := (&wire.GenQueryInp{MaxRows: 500}).Select(columns...).
		Where(wire.ColCollName, wire.Equal(filepath.Clean(dir))).Where(wire.ColDataName, wire.Equal(base))
	var out wire.GenQueryOut
	if _, err := c.Call(c.b.t.Context(), &wire.Call{API: wire.APIGenQuery, In: in, Out: &out}); err != nil && wire.CodeOf(err) != wire.CodeNoRows {
		c.b.t.Fatal(err)
	}
	rows := make([][]string, out.Rows)
	for i := range rows {
		for _, column := range columns {
			rows[i] = append(rows[i], out.Value(column, i))
		}
	}
	return rows
}

// avus returns the AVUs of an object, sorted, each as NAME=VALUE UNIT.
func (c otherClient) avus(name string) (list []string) {
	c.b.t.Helper()
	for _, row := range c.rows(name, wire.ColMetaDataName, wire.ColMetaDataValue, wire.ColMetaDataUnits) {
		list = append(list, strings.TrimSpace(row[0]+"="+row[1]+" "+row[2]))
	}
	slices.Sort(list)
	return list
}

func wantContent(t *testing.T, file, want string) {
	t.Helper()
	if text, err := os.ReadFile(file); err != nil || string(text) != want {
		t.Errorf("%s holds %.60q (%d bytes), %v; want %.60q", file, text, len(text), err, want)
	}
}
