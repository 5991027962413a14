package zone

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// agent serves one connection.
type agent struct {
	z       *Zone
	nc      net.Conn
	s       *wire.Session
	user    *user // whose permissions count; nil before the first call
	descs   map[int]*desc
	cursors map[int]*cursor
	conns   map[string]*wire.Conn // to other zones
	far     map[int]farDesc
	ticket  *ticket

	extraction Extraction // what goes wrong with the next one
}

// answer is the reply to a call.
type answer struct {
	status  int
	out     wire.Message
	body    []byte
	remarks []wire.ErrMsg
}

// handler serves a call. An error is a code, or ends the connection.
type handler func(a *agent, r *wire.Request) (answer, error)

// decoded makes a handler of a function that takes the decoded message.
func decoded[T any, M interface {
	*T
	wire.Message
}](f func(a *agent, in M) (answer, error)) handler {
	return func(a *agent, r *wire.Request) (answer, error) {
		in := M(new(T))
		if err := r.Decode(in); err != nil {
			return answer{}, code(wire.CodePacking)
		}
		return f(a, in)
	}
}

// withBody is decoded for calls with a byte stream.
func withBody[T any, M interface {
	*T
	wire.Message
}](f func(a *agent, in M, r *wire.Request) (answer, error)) handler {
	return func(a *agent, r *wire.Request) (answer, error) {
		in := M(new(T))
		if err := r.Decode(in); err != nil {
			return answer{}, code(wire.CodePacking)
		}
		return f(a, in, r)
	}
}

// withJSON is decoded for calls whose input is JSON.
func withJSON[T any](f func(a *agent, in *T) (answer, error)) handler {
	return decoded(func(a *agent, in *wire.BinBytesBuf) (answer, error) {
		v := new(T)
		if err := in.JSON(v); err != nil {
			return answer{}, code(wire.CodeInvalidInput)
		}
		return f(a, v)
	})
}

// handlerFor returns the handler of a call, nil if the zone does not have it.
func handlerFor(api int) handler {
	switch api {
	case wire.APIDataObjCreate:
		return decoded((*agent).create)
	case wire.APIDataObjOpen, wire.APIReplicaOpen:
		return decoded((*agent).open)
	case wire.APIDataObjClose:
		return decoded((*agent).close)
	case wire.APIDataObjLseek:
		return decoded((*agent).seek)
	case wire.APIDataObjRead:
		return decoded((*agent).read)
	case wire.APIDataObjWrite:
		return withBody((*agent).write)
	case wire.APIDataObjPut:
		return withBody((*agent).put)
	case wire.APIDataObjGet:
		return decoded((*agent).get)
	case wire.APIDataObjUnlink:
		return decoded((*agent).unlink)
	case wire.APIDataObjRename:
		return decoded((*agent).rename)
	case wire.APIDataObjCopy:
		return decoded((*agent).copy)
	case wire.APIDataObjChksum:
		return decoded((*agent).chksum)
	case wire.APIObjStat:
		return decoded((*agent).stat)
	case wire.APICollCreate:
		return decoded((*agent).mkdir)
	case wire.APIRmColl:
		return decoded((*agent).rmColl)
	case wire.APIModColl:
		return decoded((*agent).modColl)
	}
	return handlerForMore(api)
}

func handlerForMore(api int) handler {
	switch api {
	case wire.APIGetMiscSvrInfo:
		return func(a *agent, _ *wire.Request) (answer, error) { return a.miscInfo() }
	case wire.APIGenQuery:
		return decoded((*agent).genQuery)
	case wire.APIGenQuery2:
		return decoded((*agent).genQuery2)
	case wire.APIModAVUMetadata:
		return decoded((*agent).modAVU)
	case wire.APIAtomicMetadata:
		return withJSON((*agent).atomicMetadata)
	case wire.APIModAccessControl:
		return decoded((*agent).modAccess)
	case wire.APIAtomicACL:
		return withJSON((*agent).atomicACL)
	case wire.APIGetFileDescInfo:
		return withJSON((*agent).descInfo)
	case wire.APIReplicaClose:
		return withJSON((*agent).replicaClose)
	case wire.APITouch:
		return withJSON((*agent).touch)
	case wire.APIReplicaTruncate:
		return decoded((*agent).replicaTruncate)
	case wire.APIDataObjTruncate:
		return decoded((*agent).truncate)
	case wire.APIDataObjRepl:
		return decoded((*agent).replicate)
	case wire.APIDataObjTrim:
		return decoded((*agent).trim)
	case wire.APIStructFileExtAndReg:
		return decoded((*agent).extract)
	case wire.APIStructFileBundle:
		return decoded((*agent).bundle)
	case wire.APITicketAdmin:
		return decoded((*agent).ticketAdmin)
	case wire.APIEndTransaction:
		return decoded(func(*agent, *wire.EndTransactionInp) (answer, error) { return answer{}, nil })
	}
	return nil
}

// serve runs an agent until the client goes away.
func (z *Zone) serve(nc net.Conn) {
	a := &agent{z: z, nc: nc, descs: map[int]*desc{}, cursors: map[int]*cursor{}, conns: map[string]*wire.Conn{}, far: map[int]farDesc{}}
	defer a.leave()
	s, err := wire.Accept(z.ctx, nc, z.serverConfig(a))
	if err != nil {
		z.log("start-up", slog.Any("error", err))
		return
	}
	a.s = s
	for {
		r, err := s.Next()
		if err == nil {
			err = a.call(r)
		}
		if err != nil {
			return
		}
	}
}

// leave closes the connection and everything that was open: what was being written is
// stale.
func (a *agent) leave() {
	if a.s != nil {
		_ = a.s.Close()
	}
	_ = a.nc.Close()
	for _, c := range a.conns {
		_ = c.Close()
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	for _, d := range a.descs {
		a.z.abandon(d)
	}
	delete(a.z.agents, a)
}

// errGone ends an agent.
var errGone = errors.New("the agent is gone")

// call serves one request, with the fault that a test may have ordered.
func (a *agent) call(r *wire.Request) error {
	a.identify(r.API)
	f := a.z.faultFor(Call{API: r.API, User: a.s.User()})
	if f != nil {
		if done, err := f.before(a); done {
			return err
		}
		a.extraction = f.Extraction
		defer func() { a.extraction = Extraction{} }()
	}
	ans, err := a.carryOut(r)
	var c code
	if errors.As(err, &c) {
		ans.status = int(c)
	} else if err != nil {
		a.z.log("call", slog.Int("api", r.API), slog.Any("error", err))
		return err
	}
	a.z.log("call", slog.String("api", wire.APIName(r.API)), slog.Int("status", ans.status))
	if f != nil && f.LoseReply {
		return errGone
	}
	return a.s.Reply(ans.status, ans.out, ans.body, ans.remarks...)
}

// carryOut serves a request here or in another zone.
func (a *agent) carryOut(r *wire.Request) (answer, error) {
	h := handlerFor(r.API)
	switch {
	case h == nil:
		return answer{}, code(wire.CodeUnknownAPI)
	case a.user == nil: // not logged in, or removed since
		if r.API != wire.APIGetMiscSvrInfo {
			return answer{}, code(wire.CodeUnknownUser)
		}
	default:
		if ans, done, err := a.forward(r); done {
			return ans, err
		}
	}
	return h(a, r)
}

// identify finds out for whom the agent works: the client user, if that is who logged
// in or if an administrator did.
func (a *agent) identify(api int) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	a.z.calls[api]++
	if a.user != nil || a.s.User() == "" {
		return
	}
	if zone, server := serverOf(a.s.User()); server {
		a.user = a.z.cat.userNamed(a.s.Startup().ClientUser + "#" + zone)
		return
	}
	a.user = a.z.cat.userNamed(a.s.User())
	if client := a.z.cat.userNamed(a.s.Startup().ClientUser); client != nil && a.user.admin() {
		a.user = client
	}
}

func (z *Zone) log(msg string, attrs ...slog.Attr) {
	z.opts.Log.LogAttrs(context.Background(), slog.LevelDebug, msg, attrs...)
}

func (a *agent) miscInfo() (answer, error) {
	return answer{out: &wire.MiscSvrInfo{
		ServerType: 1, BootTime: int(a.z.now()), ReleaseVersion: a.z.opts.Release, APIVersion: "d", Zone: a.z.opts.Name,
	}}, nil
}
