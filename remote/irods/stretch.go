package irods

import (
	"context"
	"errors"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// stretch is the reading of a range of an object that stays open, with a question for its
// version behind it. It is a rider.
type stretch struct {
	r    *reading
	into []byte
	off  int64

	file  *openFile
	opens bool // its first call opens the object
	waits bool // for the answer to that
	proof *cursor
	got   int
	err   error
}

// load implements rider.
func (x *stretch) load() int { return loadOf(len(x.into)) }

// board implements rider.
func (x *stretch) board(s *session) []*wire.Call {
	var calls []*wire.Call
	x.file = x.r.file(s)
	if x.file == nil {
		s.trim()
		calls = s.closings()
		x.file = x.r.opening(s)
		x.opens, x.waits = true, true
		s.files = append(s.files, x.file)
		calls = append(calls, openCall(x.r.path, x.file.replica))
	}
	if x.file.pos != x.off {
		calls = append(calls, seekCall(x.file.desc, x.off))
	}
	x.file.pos, x.file.used = x.off+int64(len(x.into)), time.Now()
	x.proof = x.r.b.question(x.r.path)
	return append(calls, readCall(x.file.desc, x.into), x.proof.page())
}

// opening returns an object that is to be opened, with the number that it will get.
func (r *reading) opening(s *session) *openFile {
	return &openFile{object: r.path, version: r.ref.Version, replica: r.b.choices.number(r.ref.Version), desc: s.lowest()}
}

// took implements rider.
func (x *stretch) took(s *session, call *wire.Call, result wire.Result) (last bool) {
	switch call.API {
	case wire.APIDataObjOpen:
		x.waits = false
		switch {
		case result.Err != nil:
			x.err = result.Err
			x.file.bad = true
			s.lose(x.file)
		case result.Status != x.file.desc:
			x.file.desc = result.Status
			x.err = errStrayed
			x.r.b.misguessed(x.r.path)
			x.spoil(s)
		}
	case wire.APIDataObjLseek:
		x.refused(s, result.Err)
	case wire.APIDataObjRead:
		x.got = result.N
		x.refused(s, result.Err)
		switch {
		case x.file.bad && x.err == nil:
			x.err = errPosition
		case x.got != len(x.into):
			x.spoil(s)
		}
	case wire.APIGenQuery:
		x.refused(s, x.proof.took(result.Err))
		return true
	}
	return false
}

func (x *stretch) refused(s *session, err error) {
	if err != nil && x.err == nil {
		x.err = err
		x.spoil(s)
	}
}

// errPosition tells that a read before this one has not left the object where this one
// has taken it for granted.
var errPosition = errors.New("the object stands elsewhere")

// spoil gives the object up, wherever it stands now.
func (x *stretch) spoil(s *session) {
	x.file.bad = true
	s.forget(x.file)
}

// unsettled implements rider. Until the server has opened the object, the numbers of
// others to be opened are not known, nor whether there is anything to read from.
func (x *stretch) unsettled() bool { return x.waits }

// strayed implements rider: an object with another number is closed like any other.
func (x *stretch) strayed() bool { return false }

// proved tells whether the bytes are there and of the wanted version.
func (x *stretch) proved(ctx context.Context) bool {
	return x.err == nil && x.got == len(x.into) && x.r.stood(ctx, x.proof, x.file.replica)
}

// stood tells whether the answer to a question that came with bytes of a replica says that
// they are of the wanted version.
func (r *reading) stood(ctx context.Context, proof *cursor, replica int) bool {
	if !proof.ended {
		return false // there is more to ask
	}
	o, err := readAlike(ctx, nil, proof) // of the one page that there is
	return err == nil && o != nil && r.weigh(o) == nil && r.b.choices.number(r.ref.Version) == replica
}
