package irods

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// passwords of the accounts of startZone.
var passwords = map[string]string{"alice": "wonderland", "bob": "builder", "rods": "rods"}

// raw is a connection of another client, which does what no Backend would.
type raw struct {
	t    testing.TB
	conn *wire.Conn
}

func connect(t testing.TB, z *zone.Zone, user string) *raw {
	t.Helper()
	conn, err := wire.Dial(t.Context(), wire.Config{Address: z.Addr(), User: user, Zone: z.Name(),
		Password: func(context.Context) (string, error) { return passwords[user], nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t, conn}
}

func (r *raw) try(call *wire.Call) (wire.Reply, error) {
	return r.conn.Call(context.Background(), call)
}

func (r *raw) do(call *wire.Call) wire.Reply {
	r.t.Helper()
	reply, err := r.try(call)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply
}

// grant gives a user or group a level of access, "null" for none.
func (r *raw) grant(level, user, path string) {
	r.t.Helper()
	r.do(&wire.Call{API: wire.APIModAccessControl, In: &wire.ModAccessControlInp{Level: level, User: user, Path: path}})
}

func input(path string, flags int, cond ...wire.Pair) *wire.DataObjInp {
	return &wire.DataObjInp{Path: path, CreateMode: 0o600, OpenFlags: flags, NumThreads: wire.NoThreading, Cond: cond}
}

// on is the condition that asks for a resource.
func on(resource string) wire.Pair { return wire.Pair{Key: wire.KwDestRescName, Value: resource} }

func (r *raw) replicate(path, resource string, more ...wire.Pair) {
	r.t.Helper()
	r.do(&wire.Call{API: wire.APIDataObjRepl, In: input(path, 0, append(more, on(resource))...)})
}

const newFile = wire.OpenCreate | wire.OpenWriteOnly

func (r *raw) open(path string, flags int, cond ...wire.Pair) (desc int) {
	r.t.Helper()
	return r.do(&wire.Call{API: wire.APIDataObjOpen, In: input(path, flags, cond...)}).Status
}

func (r *raw) write(desc int, text string) {
	r.t.Helper()
	r.do(writeCall(desc, []byte(text)))
}

func (r *raw) close(desc int) {
	r.t.Helper()
	r.do(closeCall(desc))
}

// put stores an object, over one that is there.
func (r *raw) put(path, text string, cond ...wire.Pair) {
	r.t.Helper()
	desc := r.open(path, newFile|wire.OpenTruncate, cond...)
	r.write(desc, text)
	r.close(desc)
}

// rows asks the catalog.
func (r *raw) rows(columns []int, where ...wire.Where) (rows []string) {
	r.t.Helper()
	in := &wire.GenQueryInp{MaxRows: 500, Wheres: where}
	in.Select(columns...)
	out := &wire.GenQueryOut{}
	if _, err := r.try(&wire.Call{API: wire.APIGenQuery, In: in, Out: out}); err != nil && code(err) != wire.CodeNoRows {
		r.t.Fatal(err)
	}
	for i := range out.Rows {
		var values []string
		for _, c := range columns {
			values = append(values, out.Value(c, i))
		}
		rows = append(rows, strings.Join(values, " "))
	}
	return rows
}

// replicas returns number, status and size of the replicas of the object of that name.
func (r *raw) replicas(name string) string {
	r.t.Helper()
	return strings.Join(r.rows([]int{wire.ColReplNum, wire.ColReplStatus, wire.ColDataSize},
		wire.Where{Column: wire.ColDataName, Cond: wire.Equal(name)}), ", ")
}

// text is a Source.
type text string

func (s text) Size() int64                  { return int64(len(s)) }
func (s text) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

// put stores a file by a Backend.
func put(t testing.TB, b remote.Backend, path, content string, opts remote.PutOptions) remote.Entry {
	t.Helper()
	e, err := b.Put(t.Context(), path, text(content), opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// contentOf reads a file as it is now.
func contentOf(t testing.TB, b remote.Backend, path string) string {
	t.Helper()
	e := stat(t, b, path)
	p := make([]byte, e.Size)
	if n, err := b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, p, 0); err != nil && err != io.EOF {
		t.Fatalf("read %s: %v after %d bytes", path, err, n)
	}
	return string(bytes.Clone(p))
}

func stat(t testing.TB, b remote.Backend, path string) remote.Entry {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// names lists a directory.
func names(t testing.TB, b remote.Backend, dir string) map[string]remote.Entry {
	t.Helper()
	all := map[string]remote.Entry{}
	err := b.List(t.Context(), dir, func(e remote.Entry) error {
		if _, double := all[e.Path]; double {
			return fmt.Errorf("%s comes twice", e.Path)
		}
		all[e.Path] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantKind checks the kind of an error.
func wantKind(t testing.TB, err error, want remote.Kind, what string, args ...any) {
	t.Helper()
	if err == nil || remote.KindOf(err) != want {
		t.Errorf("%s: %v, want %v", fmt.Sprintf(what, args...), err, want)
	}
}

// counted returns the calls that f makes, by their names.
func counted(z *zone.Zone, f func()) map[string]int {
	z.ResetCalls()
	f()
	calls := map[string]int{}
	for api, n := range z.Calls() {
		calls[wire.APIName(api)] += n
	}
	return calls
}

// bob is bob's view of a collection of alice's.
func bobs(z *zone.Zone, root string) Options {
	opts := options(z, z.Addr())
	opts.User, opts.Root = "bob", root
	opts.Password = func(context.Context) (remote.Secret, error) { return remote.NewSecret("builder"), nil }
	return opts
}
