package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// zoneCommand is the first argument of this program as a server.
const zoneCommand = "serve-zone"

// The user of the zone.
const (
	zoneUser   = "alice"
	zoneSecret = "wonderland"
	zoneHome   = "/tempZone/home/alice"
)

// serveZone is the program of the zone's process, a server of its own so that its CPU
// time is not a client's. It prints its address and serves until a signal.
func serveZone(args []string) error {
	set := flag.NewFlagSet(zoneCommand, flag.ContinueOnError)
	dir := set.String("dir", "", "where catalog and data lie")
	late := set.Duration("late", 0, "how far the clock is behind")
	if err := set.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	z, err := zone.Start(zone.Options{
		Dir: *dir, Policy: wire.PolicyRefuse,
		Accounts: []zone.Account{{Name: zoneUser, Password: zoneSecret}},
		Now:      func() time.Time { return time.Now().Add(-*late) },
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Println(z.Addr()); err != nil {
		return errors.Join(err, z.Close())
	}
	<-ctx.Done()
	return z.Close()
}

// zoneServer is the zone's process.
type zoneServer struct {
	*child
	addr string
}

// startZone runs this program as the server of a zone.
func startZone(dir, log string, late time.Duration) (*zoneServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, zoneCommand, "-dir", dir, "-late", late.String())
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd.Stdout = in
	z := &zoneServer{}
	z.child, err = launch(cmd, log)
	_ = in.Close() // the process has its own
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("zone: %w: %s", err, tailOf(log)), z.stop())
	}
	z.addr = strings.TrimSpace(line)
	return z, nil
}

// objectSource is an object's content, for Put.
type objectSource struct {
	p    *pattern
	seed uint64
	size int64
}

func (s objectSource) Size() int64 { return s.size }

func (s objectSource) Open() (io.ReadCloser, error) {
	return io.NopCloser(bufio.NewReaderSize(&source{p: s.p, seed: s.seed, size: s.size}, 1<<20)), nil
}

// populateZone makes old collections and objects in a fresh zone.
func populateZone(ctx context.Context, dir, log string, p *pattern, collections []string, objects []file) (err error) {
	z, err := startZone(dir, log, age)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.stop()) }()
	b, err := dialZone(ctx, z.addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for _, name := range collections {
		if _, err := b.Mkdir(ctx, path.Join("/", name)); err != nil {
			return err
		}
	}
	return putAll(ctx, b, p, objects)
}

// dialZone connects to a zone as its user.
func dialZone(ctx context.Context, addr string) (*irods.Backend, error) {
	u, err := irods.ParseURL("irods://" + zoneUser + "@" + addr + zoneHome)
	if err != nil {
		return nil, err
	}
	return irods.Dial(ctx, irods.Options{Host: u.Host, Port: u.Port, User: u.User, Zone: irods.ZoneOf(u.Root), Root: u.Root,
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret(zoneSecret), nil }})
}

// putAll uploads some objects at a time.
func putAll(ctx context.Context, b *irods.Backend, p *pattern, objects []file) error {
	next := make(chan file)
	failed := make([]error, 4)
	var all sync.WaitGroup
	for n := range failed {
		all.Go(func() {
			for f := range next {
				if failed[n] == nil {
					_, failed[n] = b.Put(ctx, path.Join("/", f.path), objectSource{p, f.seed, f.size}, remote.PutOptions{})
				}
			}
		})
	}
	for _, f := range objects {
		next <- f
	}
	close(next)
	all.Wait()
	return errors.Join(failed...)
}
