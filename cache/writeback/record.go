package writeback

import (
	"errors"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// recKind is what a record says.
type recKind uint8

// The kinds of records. A new one needs a new version of the journal's format, as an
// older program would take a journal for done that holds more.
const (
	recOp       recKind = iota + 1 // a change that is to be made on the server
	recDone                        // a change that is made, or given up by the user
	recParked                      // a change that waits for the user, and why
	recSynced                      // the staged content of a change is on stable storage
	recConflict                    // a change went beside its path, as another was there
	recKinds                       // one more than the last
)

// opKind is what a change does.
type opKind uint8

// The kinds of changes. As for recKind, a new one needs a new version of the format.
const (
	opPut opKind = iota + 1
	opMkdir
	opRemove
	opRename
	opSymlink
	opSetAttr
	opClean // take away what an upload, cut off before its end, has left torn
	opKinds // one more than the last
)

var opNames = [opKinds]string{opPut: "put", opMkdir: "mkdir", opRemove: "remove",
	opRename: "rename", opSymlink: "symlink", opSetAttr: "setattr", opClean: "clean"}

// String returns the name that people and status see.
func (k opKind) String() string {
	if k > 0 && k < opKinds {
		return opNames[k]
	}
	return "unknown change"
}

// record is one fact of the journal. A field that is zero is not written; an empty list
// is read as nil. Times are read in UTC.
type record struct {
	Kind   recKind
	ID     uint64 // of the change; of all kinds but recConflict
	Gen    uint64 // recOp: counts the commits of one change; recSynced: which of them
	Branch string // Tree of the branch
	Op     opKind

	Path, To, Target string

	Stage string // name of the staging file in the staging directory
	Size  int64  // of the content
	// Have are the bytes of the staging file that count.
	Have  []Extent
	Limit int64      // bytes of From that still count, where they are not in Have
	From  remote.Ref // the version of the server over which the staging file lies

	Base     remote.Entry // the server's version below; zero Type: none
	NotExist bool         // condition: nothing at Path
	ToBase   remote.Entry // rename: what was at To; zero Type: nothing

	MTime    time.Time
	HasMTime bool // MTime is that of the file
	SetMTime bool // and is to be set on the server
	Loose    bool // unless that costs a request of its own
	Mode     uint32
	HasMode  bool

	Type   remote.Type // remove: of what
	Sum    uint32      // CRC-32C of the staged content, or of Parts of it
	HasSum bool
	Parts  []Extent // nil: all
	Sent   bool     // an attempt may have sent what Sum tells of
	Synced bool     // the staged content is on stable storage
	Doubt  bool     // written again for a change of an earlier boot of which that is not proven
	Resume string   // token of an upload under way

	// Ghosts are contents that earlier attempts at this path may have stored.
	Ghosts []recGhost

	Cause   string // parked: for people
	ErrKind remote.Kind
	Time    time.Time // parked, conflict: when
}

// recGhost is content of which it is not known whether the server has it.
type recGhost struct {
	Size   int64
	Sum    uint32 // CRC-32C, if HasSum
	HasSum bool
	Parts  []Extent  // of which Sum is, nil: all
	Since  time.Time // when it was made; zero if that is not known
	MTime  time.Time // zero if none was to be stored
}

// errRecord is the error of bytes that are no record.
var errRecord = errors.New("a record of the journal is not in its form")

// A record is written as its fields one after the other, in the order of their tags:
// the tag and the length of the value as varints, then the value. Numbers are varints
// again, texts their bytes, a true flag is the number 1. Who does not know a tag skips
// it. A tag is never used for something else later.
//
// recFields and recEntryFields have the field of each tag; there is no tag 0.
var recFields = [...]recField[record]{
	1:  recNumber(func(r *record) *recKind { return &r.Kind }),
	2:  recNumber(func(r *record) *uint64 { return &r.ID }),
	3:  recNumber(func(r *record) *uint64 { return &r.Gen }),
	4:  recText(func(r *record) *string { return &r.Branch }),
	5:  recNumber(func(r *record) *opKind { return &r.Op }),
	6:  recText(func(r *record) *string { return &r.Path }),
	7:  recText(func(r *record) *string { return &r.To }),
	8:  recText(func(r *record) *string { return &r.Target }),
	9:  recText(func(r *record) *string { return &r.Stage }),
	10: recNumber(func(r *record) *int64 { return &r.Size }),
	11: recExtents(func(r *record) *[]Extent { return &r.Have }),
	12: recEntry(func(r *record) *remote.Entry { return &r.Base }),
	13: recFlag(func(r *record) *bool { return &r.NotExist }),
	14: recEntry(func(r *record) *remote.Entry { return &r.ToBase }),
	15: recTime(func(r *record) *time.Time { return &r.MTime }),
	16: recFlag(func(r *record) *bool { return &r.HasMTime }),
	17: recFlag(func(r *record) *bool { return &r.SetMTime }),
	18: recNumber(func(r *record) *uint32 { return &r.Mode }),
	19: recFlag(func(r *record) *bool { return &r.HasMode }),
	20: recNumber(func(r *record) *remote.Type { return &r.Type }),
	21: recNumber(func(r *record) *uint32 { return &r.Sum }),
	22: recFlag(func(r *record) *bool { return &r.HasSum }),
	23: recFlag(func(r *record) *bool { return &r.Synced }),
	24: recText(func(r *record) *string { return &r.Resume }),
	25: recText(func(r *record) *string { return &r.Cause }),
	26: recNumber(func(r *record) *remote.Kind { return &r.ErrKind }),
	27: recTime(func(r *record) *time.Time { return &r.Time }),
	28: recNumber(func(r *record) *int64 { return &r.Limit }),
	29: recText(func(r *record) *string { return &r.From.Path }),
	30: recText(func(r *record) *string { return &r.From.Version }),
	31: recNumber(func(r *record) *int64 { return &r.From.Size }),
	32: recFlag(func(r *record) *bool { return &r.Doubt }),
	33: {recPutGhosts, recGetGhosts},
	34: recExtents(func(r *record) *[]Extent { return &r.Parts }),
	35: {recPutGhostParts, recGetGhostParts},
	36: recFlag(func(r *record) *bool { return &r.Sent }),
	37: {recPutGhostTimes, recGetGhostTimes},
	38: recFlag(func(r *record) *bool { return &r.Loose }),
}

var recEntryFields = [...]recField[remote.Entry]{
	1:  recText(func(e *remote.Entry) *string { return &e.Path }),
	2:  recNumber(func(e *remote.Entry) *remote.Type { return &e.Type }),
	3:  recNumber(func(e *remote.Entry) *int64 { return &e.Size }),
	4:  recTime(func(e *remote.Entry) *time.Time { return &e.MTime }),
	5:  recText(func(e *remote.Entry) *string { return &e.Version }),
	6:  recFlag(func(e *remote.Entry) *bool { return &e.Provisional }),
	7:  recText(func(e *remote.Entry) *string { return &e.ID }),
	8:  recNumber(func(e *remote.Entry) *uint32 { return &e.Mode }),
	9:  recFlag(func(e *remote.Entry) *bool { return &e.ModeKnown }),
	10: recNumber(func(e *remote.Entry) *remote.Access { return &e.Access }),
	11: recText(func(e *remote.Entry) *string { return &e.Target }),
	12: recText(func(e *remote.Entry) *string { return &e.Checksum.Algorithm }),
	13: recText(func(e *remote.Entry) *string { return &e.Checksum.Hex }),
}

// appendRecord appends the form of r to p.
func appendRecord(p []byte, r *record) []byte { return recAppend(p, recFields[:], r) }

// decodeRecord reads a whole record. The texts of r share one copy of p.
func decodeRecord(p []byte) (*record, error) {
	r := &record{}
	ok := recParse(string(p), recFields[:], r)
	if !ok || r.Kind == 0 || r.Kind >= recKinds || r.Op >= opKinds || (r.Kind == recOp) != (r.Op != 0) {
		return nil, errRecord
	}
	return r, nil
}
