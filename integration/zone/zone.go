package zone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Zone is a zone that listens on a socket.
type Zone struct {
	opts   Options
	l      net.Listener
	tls    *tls.Config
	caFile string
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	closing sync.Once
	closed  error
	faults  atomic.Pointer[func(Call) *Fault]

	mu      sync.Mutex // guards all below
	cat     *catalog
	agents  map[*agent]struct{}
	remotes map[string]*remoteZone
	calls   map[int]int
	logins  int
}

// Start opens or makes the zone in opts.Dir and serves it. Stop it with Close.
func Start(opts Options) (*Zone, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	z := &Zone{opts: opts, agents: map[*agent]struct{}{}, remotes: map[string]*remoteZone{}, calls: map[int]int{}}
	z.ctx, z.cancel = context.WithCancel(context.Background())
	if err := z.open(); err != nil {
		z.cancel()
		return nil, fmt.Errorf("zone: %w", err)
	}
	z.done.Go(z.accept)
	return z, nil
}

func (z *Zone) open() error {
	if err := os.MkdirAll(z.opts.Dir, 0o700); err != nil {
		return err
	}
	if z.opts.TLS {
		cert, ca, err := certificate(filepath.Join(z.opts.Dir, "tls"), z.opts.NotAfter)
		if err != nil {
			return err
		}
		z.caFile, z.tls = ca, &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	cat, err := openCatalog(z.opts.Dir, z.opts.Name)
	if err != nil {
		return err
	}
	z.cat = cat
	if err := z.furnish(); err != nil {
		return errors.Join(err, cat.close())
	}
	z.l, err = net.Listen("tcp", z.opts.Addr)
	if err != nil {
		return errors.Join(err, cat.close())
	}
	return nil
}

// furnish makes what a fresh zone has, and accounts and resources that are new.
func (z *Zone) furnish() error {
	for _, name := range z.opts.Resources {
		r := z.cat.resourceNamed(name)
		if r == nil {
			r = &resource{ID: z.cat.newID(), Name: name, Time: z.now()}
			z.cat.resources[r.ID] = r
			z.cat.save(record{Resource: r})
		}
		if err := os.MkdirAll(z.cat.vault(r), 0o700); err != nil {
			return err
		}
	}
	z.group("public")
	for _, a := range z.opts.Accounts {
		z.account(a)
	}
	return z.cat.fault
}

// group returns the group of that name, made if missing.
func (z *Zone) group(name string) *user {
	g := z.cat.userNamed(name)
	if g == nil {
		g = &user{ID: z.cat.newID(), Name: name, Type: "rodsgroup", Time: z.now()}
		z.cat.users[g.ID] = g
		z.cat.save(record{User: g})
	}
	return g
}

// account makes or changes a user and its home and trash collections.
func (z *Zone) account(a Account) {
	u := z.cat.userNamed(a.Name + "#" + a.Zone)
	if u == nil {
		u = &user{ID: z.cat.newID(), Name: a.Name, Zone: a.Zone, Time: z.now()}
		z.cat.users[u.ID] = u
	}
	u.Type, u.Password, u.PAM = "rodsuser", a.Password, a.PAM
	if a.Admin {
		u.Type = "rodsadmin"
	}
	u.Groups = []int64{z.group("public").ID}
	for _, name := range a.Groups {
		u.Groups = append(u.Groups, z.group(name).ID)
	}
	z.cat.save(record{User: u})
	z.homes(u)
}

// homes makes the collections around a user's home. Everybody may read those above.
func (z *Zone) homes(u *user) {
	everybody := z.group("public").ID
	for _, path := range [][]string{{z.opts.Name, "home"}, {z.opts.Name, "trash", "home"}} {
		at := z.cat.root
		for _, name := range append(path, u.full()) {
			next := at.subs[name]
			if next == nil {
				next = z.cat.addColl(at, name, u, z.now())
				if name != u.full() {
					next.Access = access{everybody: levelRead}
				}
				z.cat.save(record{Coll: next})
			}
			at = next
		}
	}
}

// freeSpace is what the catalog says, "" if it does not know.
func (z *Zone) freeSpace(r *resource) string {
	n, ok := z.opts.FreeSpace[r.Name]
	if !ok {
		return ""
	}
	return id(n)
}

func (z *Zone) now() int64 { return z.opts.Now().Unix() }

// Name returns the zone's name.
func (z *Zone) Name() string { return z.opts.Name }

// Addr returns the address to connect to, host:port.
func (z *Zone) Addr() string { return z.l.Addr().String() }

// CAFile returns the PEM file with the certificate authority, "" without TLS.
func (z *Zone) CAFile() string { return z.caFile }

// Home returns the path of a user's home collection.
func (z *Zone) Home(user string) string { return "/" + z.opts.Name + "/home/" + user }

// Close cuts all connections, waits for the agents and closes the catalog. Later calls
// return what the first one did.
func (z *Zone) Close() error {
	z.closing.Do(func() {
		z.cancel()
		_ = z.l.Close()
		z.done.Wait()
		z.closed = z.cat.close()
	})
	return z.closed
}

func (z *Zone) accept() {
	for {
		nc, err := z.l.Accept()
		if err != nil {
			return
		}
		z.done.Go(func() { z.serve(nc) })
	}
}

// serverConfig is what the protocol package needs to know.
func (z *Zone) serverConfig(a *agent) wire.ServerConfig {
	return wire.ServerConfig{
		Release: z.opts.Release, Policy: z.opts.Policy, TLS: z.tls,
		Password: z.password, PAM: z.pam,
		Admit: func(s wire.StartupPack) int { return z.admit(a, s) },
	}
}

// admit counts an agent, unless there are too many.
func (z *Zone) admit(a *agent, s wire.StartupPack) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if zone, server := serverOf(s.ProxyUser); server && (s.ClientZone != zone || z.cat.userNamed(s.ClientUser+"#"+zone) == nil) {
		return wire.CodeUnknownUser
	}
	if z.opts.MaxAgents > 0 && len(z.agents) >= z.opts.MaxAgents {
		return wire.CodeLibrary
	}
	z.agents[a] = struct{}{}
	z.logins++
	return 0
}

func (z *Zone) password(name, zone string) (string, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if other, server := serverOf(name); server {
		r := z.remotes[other]
		if r == nil {
			return "", false
		}
		return r.key, true
	}
	u := z.cat.userNamed(name)
	if u == nil || u.Zone != "" || u.Type == "rodsgroup" || (zone != "" && zone != z.opts.Name) {
		return "", false
	}
	return u.Password, true
}

// pam checks a PAM password. The password it gives out is the native one.
func (z *Zone) pam(name, password string, _ int) (string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	u := z.cat.userNamed(name)
	if u == nil || u.PAM == "" || u.PAM != password {
		return "", &wire.Error{Code: wire.CodePam}
	}
	return u.Password, nil
}

// Agents returns the number of connections.
func (z *Zone) Agents() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.agents)
}

// Logins returns the number of connections so far.
func (z *Zone) Logins() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.logins
}

// KillAgents cuts all connections, as when the agents' processes are killed, and
// returns how many there were.
func (z *Zone) KillAgents() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	for a := range z.agents {
		_ = a.nc.Close()
	}
	return len(z.agents)
}

// Calls returns how often each API call was made since the last ResetCalls.
func (z *Zone) Calls() map[int]int {
	z.mu.Lock()
	defer z.mu.Unlock()
	calls := make(map[int]int, len(z.calls))
	for api, n := range z.calls {
		calls[api] = n
	}
	return calls
}

// ResetCalls starts counting calls anew.
func (z *Zone) ResetCalls() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.calls)
}
