package zone

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// remoteZone is another zone that this one is federated with.
type remoteZone struct {
	name, addr string
	key        string // shared by both
	tls        *tls.Config
}

// Federate makes two zones known to each other, at the addresses that they have now.
// Users of one work in the other by path, through the server that they have logged in to,
// if the other has an account with their name and zone.
//
// What the agent passes on: calls on one object or collection by its path, calls on the
// descriptors that come of that, and queries by KwZone or, as the server's source says,
// by the first condition on the name of a collection, its parent or a zone. A path in a
// zone that is not known is looked for in the local one; an unknown KwZone is
// CodeInvalidZone. Copies between zones are refused, and atomic metadata
// works in the local zone only.
func Federate(a, b *Zone) error {
	key := rand.Text()
	return errors.Join(a.join(b, key), b.join(a, key))
}

func (z *Zone) join(other *Zone, key string) error {
	if z.opts.Name == other.opts.Name {
		return fmt.Errorf("zone: two zones are called %s", z.opts.Name)
	}
	r := &remoteZone{name: other.opts.Name, addr: other.Addr(), key: key}
	if other.caFile != "" {
		pem, err := os.ReadFile(other.caFile)
		if err != nil {
			return fmt.Errorf("zone: %w", err)
		}
		r.tls = &tls.Config{RootCAs: x509.NewCertPool()}
		r.tls.RootCAs.AppendCertsFromPEM(pem)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.remotes[r.name] = r
	return nil
}

// serverSuffix makes the name by which a zone's server logs in to another zone. No
// account can have it.
const serverSuffix = ";server"

// serverOf returns the zone whose server a login is.
func serverOf(login string) (zone string, ok bool) { return strings.CutSuffix(login, serverSuffix) }

// remote returns the zone of that name, nil if it is unknown or the local one.
func (z *Zone) remote(name string) *remoteZone {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.remotes[name]
}

// The codes for a remote zone that does not answer.
const (
	crossZoneConnect = code(-92000) // CROSS_ZONE_SOCK_CONNECT_ERR
	crossZoneCopy    = code(wire.CodeNotAllowed)
)

// connect returns the agent's connection to another zone, on which it works for its user.
func (a *agent) connect(r *remoteZone) (*wire.Conn, error) {
	if c := a.conns[r.name]; c != nil && !c.Broken() {
		return c, nil
	}
	policy := wire.PolicyNone
	if r.tls != nil {
		policy = wire.PolicyRequire
	}
	c, err := wire.Dial(a.z.ctx, wire.Config{
		Address: r.addr, User: a.user.Name, Zone: a.z.opts.Name, Policy: policy, TLS: r.tls, AppName: "zone " + a.z.opts.Name,
		ProxyUser: a.z.opts.Name + serverSuffix, ProxyZone: a.z.opts.Name,
		Password: func(context.Context) (string, error) { return r.key, nil },
	})
	var refused *wire.Error
	if errors.As(err, &refused) {
		return nil, code(refused.Code)
	}
	if err != nil {
		return nil, crossZoneConnect
	}
	a.conns[r.name] = c
	return c, nil
}

// farDesc is a descriptor in another zone.
type farDesc struct {
	conn *wire.Conn
	fd   int
}

// route is a request that belongs to another zone.
type route struct {
	conn  *wire.Conn
	call  *wire.Call
	opens bool // the status of the reply is a descriptor
	ends  int  // the local number of the descriptor that the call closes, 0: none
}

// forward passes a request on if it is for another zone.
func (a *agent) forward(r *wire.Request) (ans answer, done bool, err error) {
	way, err := a.routeFor(r)
	if err != nil || way == nil {
		return answer{}, err != nil, err
	}
	if way.call.API == wire.APIDataObjPut || way.call.API == wire.APIDataObjWrite {
		if way.call.Data, err = readBody(r); err != nil {
			return answer{}, true, err
		}
	}
	reply, err := way.conn.Call(a.z.ctx, way.call)
	var refused *wire.Error
	switch {
	case errors.As(err, &refused):
		reply.Status = refused.Code
	case err != nil:
		return answer{}, true, code(wire.CodeHeaderLength)
	}
	ans = answer{status: reply.Status, body: way.call.Into[:reply.N], remarks: reply.Errors}
	if reply.HasOut {
		ans.out = way.call.Out
	}
	if way.opens && err == nil {
		ans.status = a.freeDesc()
		a.far[ans.status] = farDesc{way.conn, reply.Status}
	}
	if way.ends != 0 {
		delete(a.far, way.ends)
	}
	return ans, true, nil
}

// freeDesc returns the lowest free number for a descriptor.
func (a *agent) freeDesc() int {
	fd := 3
	for {
		if _, far := a.far[fd]; !far && a.descs[fd] == nil {
			return fd
		}
		fd++
	}
}

// toZone returns the route of a call that belongs to the named zone, nil if that is this
// one or unknown.
func (a *agent) toZone(name string, call *wire.Call) (*route, error) {
	r := a.z.remote(name)
	if r == nil {
		return nil, nil
	}
	conn, err := a.connect(r)
	return &route{conn: conn, call: call}, err
}
