package zone

import (
	"encoding/json"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// routeFor finds out whether a request is for another zone; nil: it is not.
func (a *agent) routeFor(r *wire.Request) (*route, error) {
	switch r.API {
	case wire.APIDataObjCreate, wire.APIDataObjOpen, wire.APIReplicaOpen, wire.APIDataObjPut, wire.APIDataObjGet,
		wire.APIDataObjUnlink, wire.APIObjStat, wire.APIDataObjChksum, wire.APIDataObjTruncate, wire.APIReplicaTruncate,
		wire.APIDataObjRepl, wire.APIDataObjTrim:
		return a.routeObject(r)
	case wire.APIDataObjClose, wire.APIDataObjLseek, wire.APIDataObjRead, wire.APIDataObjWrite:
		return a.routeOpened(r)
	case wire.APIGetFileDescInfo, wire.APIReplicaClose, wire.APITouch:
		return a.routeJSON(r)
	case wire.APIGenQuery, wire.APIGenQuery2:
		return a.routeQuery(r)
	}
	return a.routeOther(r)
}

func (a *agent) routeObject(r *wire.Request) (*route, error) {
	in := &wire.DataObjInp{}
	if r.Decode(in) != nil {
		return nil, nil // the local handler refuses it
	}
	call := &wire.Call{API: r.API, In: in}
	switch r.API {
	case wire.APIObjStat:
		call.Out = &wire.RodsObjStat{}
	case wire.APIDataObjChksum, wire.APIReplicaTruncate:
		call.Out = &wire.STR{}
	case wire.APIDataObjPut, wire.APIDataObjGet:
		call.Out = &wire.PortalOprOut{}
	}
	way, err := a.toZone(zoneOf(in.Path), call)
	if err != nil || way == nil {
		return way, err
	}
	switch r.API {
	case wire.APIDataObjCreate, wire.APIDataObjOpen, wire.APIReplicaOpen:
		if len(a.descs)+len(a.far) >= a.z.opts.MaxDescriptors {
			return nil, code(wire.CodeUnixOpen - 24)
		}
		way.opens = true
	case wire.APIDataObjGet:
		var stat wire.RodsObjStat
		if _, err := way.conn.Call(a.z.ctx, &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: in.Path}, Out: &stat}); err == nil {
			call.Into = make([]byte, min(max(stat.Size, 0), maxRead))
		}
	}
	return way, nil
}

func (a *agent) routeOpened(r *wire.Request) (*route, error) {
	in := &wire.OpenedDataObjInp{}
	if r.Decode(in) != nil {
		return nil, nil
	}
	far, ok := a.far[in.Desc]
	if !ok {
		return nil, nil
	}
	way := &route{conn: far.conn, call: &wire.Call{API: r.API, In: in}}
	switch r.API {
	case wire.APIDataObjClose:
		way.ends = in.Desc
	case wire.APIDataObjLseek:
		way.call.Out = &wire.FileLseekOut{}
	case wire.APIDataObjRead:
		if in.Len < 0 || in.Len > maxRead {
			return nil, code(wire.CodeInvalidInput)
		}
		way.call.Into = make([]byte, in.Len)
	}
	in.Desc = far.fd
	return way, nil
}

// routeJSON routes the calls whose input is JSON: two on descriptors and one on a path.
func (a *agent) routeJSON(r *wire.Request) (*route, error) {
	in := &wire.BinBytesBuf{}
	var fields map[string]json.RawMessage
	if r.Decode(in) != nil || in.JSON(&fields) != nil {
		return nil, nil
	}
	if r.API == wire.APITouch {
		var path string
		if json.Unmarshal(fields["logical_path"], &path) != nil {
			return nil, nil
		}
		return a.toZone(zoneOf(path), &wire.Call{API: r.API, In: in})
	}
	var fd int
	if json.Unmarshal(fields["fd"], &fd) != nil {
		return nil, nil
	}
	far, ok := a.far[fd]
	if !ok {
		return nil, nil
	}
	fields["fd"] = json.RawMessage(id(int64(far.fd)))
	out, err := wire.NewJSON(fields)
	way := &route{conn: far.conn, call: &wire.Call{API: r.API, In: out, Out: &wire.BinBytesBuf{}}}
	if r.API == wire.APIReplicaClose {
		way.ends, way.call.Out = fd, nil
	}
	return way, err
}

func (a *agent) routeQuery(r *wire.Request) (*route, error) {
	if r.API == wire.APIGenQuery2 {
		in := &wire.Genquery2Inp{}
		if r.Decode(in) != nil {
			return nil, nil
		}
		return a.toZone(in.Zone, &wire.Call{API: r.API, In: in, Out: &wire.STR{}})
	}
	in := &wire.GenQueryInp{}
	if r.Decode(in) != nil {
		return nil, nil
	}
	return a.toZone(zoneHint(in), &wire.Call{API: r.API, In: in, Out: &wire.GenQueryOut{}})
}

// zoneHint returns the zone to which a query goes.
func zoneHint(in *wire.GenQueryInp) string {
	if zone, ok := in.Cond.Get(wire.KwZone); ok {
		return zoneOf(zone)
	}
	for _, w := range in.Wheres {
		switch w.Column {
		case wire.ColCollName, wire.ColCollParentName, wire.ColZoneName:
			text := w.Cond
			if i := strings.IndexByte(text, '/'); i >= 0 {
				text = text[i:]
			}
			return strings.TrimSuffix(zoneOf(text), "'")
		}
	}
	return ""
}

func (a *agent) routeOther(r *wire.Request) (*route, error) {
	var in wire.Message
	var out wire.Message
	var path func() string
	switch r.API {
	case wire.APICollCreate, wire.APIModColl, wire.APIRmColl:
		m := &wire.CollInp{}
		in, path = m, func() string { return m.Name }
		if r.API == wire.APIRmColl {
			out = &wire.CollOprStat{}
		}
	case wire.APIDataObjRename, wire.APIDataObjCopy:
		return a.routeTwo(r)
	case wire.APIStructFileExtAndReg, wire.APIStructFileBundle:
		m := &wire.StructFileExtAndRegInp{}
		in, path = m, func() string { return m.Path }
	case wire.APIModAccessControl:
		m := &wire.ModAccessControlInp{}
		in, path = m, func() string { return m.Path }
	case wire.APIModAVUMetadata:
		m := &wire.ModAVUMetadataInp{}
		in, path = m, func() string { return bearerPath(m) }
	default:
		return nil, nil
	}
	if r.Decode(in) != nil {
		return nil, nil
	}
	return a.toZone(zoneOf(path()), &wire.Call{API: r.API, In: in, Out: out})
}

// bearerPath returns the path of what a command on metadata is about, "" if it has none.
func bearerPath(in *wire.ModAVUMetadataInp) string {
	kind, name := in.Args[1], in.Args[2]
	if in.Args[0] == "cp" {
		name = in.Args[3]
	}
	if strings.ContainsAny(strings.TrimPrefix(kind, "-"), "dDcC") {
		return name
	}
	return ""
}

// routeTwo routes the calls with two paths. A rename goes where its source is.
func (a *agent) routeTwo(r *wire.Request) (*route, error) {
	in := &wire.DataObjCopyInp{}
	if r.Decode(in) != nil {
		return nil, nil
	}
	from, to := zoneOf(in.Src.Path), zoneOf(in.Dst.Path)
	if from != to && r.API == wire.APIDataObjCopy && (a.z.remote(from) != nil || a.z.remote(to) != nil) {
		return nil, crossZoneCopy
	}
	return a.toZone(from, &wire.Call{API: r.API, In: in})
}
