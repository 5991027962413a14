package remote

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Op names a method of Backend or of an optional ability.
type Op string

// The operations. The texts are those of Error.Op.
const (
	OpStat    Op = "stat"
	OpList    Op = "list"
	OpRead    Op = "read"
	OpPut     Op = "put"
	OpMkdir   Op = "mkdir"
	OpRemove  Op = "remove"
	OpRename  Op = "rename"
	OpSetAttr Op = "setattr"
	OpSymlink Op = "symlink"
	OpUsage   Op = "usage"
	OpOpen    Op = "open"
	OpStream  Op = "stream" // one Read of an opened stream

	OpXattrs      Op = "xattrs"
	OpSetXattr    Op = "setxattr"
	OpRemoveXattr Op = "removexattr"
	OpReplicas    Op = "replicas"
	OpRemoveTree  Op = "removetree"
	OpChanged     Op = "changed"

	OpPutGrowing Op = "putgrowing"
	OpPatch      Op = "patch"
	OpSweep      Op = "sweep"
	OpPutBatch   Op = "putbatch"
	OpReadBundle Op = "readbundle"
	OpPrune      Op = "prune"
	OpForesee    Op = "foresee"

	OpSetAttrBatch Op = "setattrbatch"
)

// Ops returns all operations, for tables that must be complete.
func Ops() []Op {
	return []Op{OpStat, OpList, OpRead, OpPut, OpMkdir, OpRemove, OpRename,
		OpSetAttr, OpSymlink, OpUsage, OpOpen, OpStream,
		OpXattrs, OpSetXattr, OpRemoveXattr, OpReplicas, OpRemoveTree, OpChanged,
		OpPutGrowing, OpPatch, OpSweep, OpPutBatch, OpReadBundle, OpPrune, OpForesee, OpSetAttrBatch}
}

// Mutates tells whether the operation changes the remote tree.
func (o Op) Mutates() bool {
	switch o {
	case OpPut, OpMkdir, OpRemove, OpRename, OpSetAttr, OpSymlink, OpSetXattr, OpRemoveXattr, OpRemoveTree,
		OpPutGrowing, OpPatch, OpPutBatch, OpPrune, OpSetAttrBatch:
		return true
	}
	return false
}

// Call is one call on its way through an Interceptor. The interceptor may read and
// replace the arguments before it calls next, and read and replace the results
// afterwards. A Call is for one goroutine; only the caller's code that it goes out to
// (Away, Sent) may be called from many.
type Call struct {
	Op   Op
	Path string // the entry concerned; the source of a rename

	// Arguments, each for the operations named.
	To        string            // rename
	Ref       Ref               // read, open
	Buf       []byte            // read, stream
	Off       int64             // read
	Source    Source            // put
	Growing   Growing           // putgrowing
	Patch     Patch             // patch
	Put       PutOptions        // put, putgrowing, patch
	Remove    RemoveOptions     // remove
	Rename    RenameOptions     // rename
	Attrs     Attrs             // setattr
	Target    string            // symlink
	Yield     func(Entry) error // list
	Opened    *Call             // stream: the call that opened it
	Name      string            // setxattr, removexattr
	Value     []byte            // setxattr
	XattrMode XattrMode         // setxattr
	Mark      string            // changed
	Batch     []BatchItem       // putbatch; Path is that of the first
	Known     []Known           // prune
	AttrItems []AttrItem        // setattrbatch; Path is that of the first
	Bundle    []BundleFile      // readbundle

	Unpack func(i int, data []byte) error // readbundle: its yield

	// Results of next.
	Entry    Entry             // stat, put, mkdir, symlink, setattr, putgrowing, patch
	N        int               // read, stream: bytes in Buf; readbundle: bytes of files
	EOF      bool              // read, stream: the file ends here; next returned nil
	Stream   io.ReadCloser     // open
	Usage    Usage             // usage
	Halt     error             // list, readbundle: the caller's yield returned this; next returned nil
	Xattrs   map[string][]byte // xattrs
	Replicas []Replica         // replicas
	Changes  Changes           // changed
	Stored   []BatchResult     // putbatch, setattrbatch

	// Away, if set before next, is called whenever the call goes out into its
	// caller's code (the yield of List and ReadBundle, the Source's readers, the methods of Growing, the
	// Patch's Bytes), and what it returns is called when the call comes back. An error
	// then ends the call. While several goroutines of the adapter are out at once, it is
	// called for the first that goes, and what it returned for the last that is back.
	Away func() (back func() error)
	// Sent, if set before next, is told the number of bytes of each piece that was
	// read from the Source, the Growing or the Patch. Of the latter two, pieces may be
	// read by several goroutines at once.
	Sent func(n int)
	// State is the interceptor's own. The reads of a stream find it in Opened.
	State any

	mu        sync.Mutex // guards the fields below
	deferred  []func()
	sourceErr error

	steps sync.Mutex // guards the fields below; held while Away and back run
	out   int        // goroutines that are in the caller's code
	back  func() error
}

// SourceErr returns the first error of the caller's Source, Growing or Patch, nil if
// there was none: a Put that failed with it says nothing about the server.
func (c *Call) SourceErr() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sourceErr
}

// noteSource keeps the first error of the Source.
func (c *Call) noteSource(err error) {
	if err == nil || err == io.EOF {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sourceErr == nil {
		c.sourceErr = err
	}
}

// Defer runs f when the call is over: when it returns, or, for an Open that
// succeeded, when the stream is closed. Last in, first out.
func (c *Call) Defer(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deferred = append(c.deferred, f)
}

func (c *Call) finish() {
	c.mu.Lock()
	all := c.deferred
	c.deferred = nil
	c.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i]()
	}
}

// Fail makes an *Error of this call.
func (c *Call) Fail(kind Kind, cause error) *Error {
	return &Error{Op: string(c.Op), Path: c.Path, Kind: kind, Err: cause}
}

// Next carries a call on. It may be called again, for another attempt.
type Next func(ctx context.Context) error

// Interceptor stands around every call. It returns the error of the call. It sees
// neither io.EOF (Call.EOF) nor the errors of a yield (Call.Halt), so that
// every error it does see is one of the backend, of the Source (Growing, Patch) or of the
// context.
type Interceptor func(ctx context.Context, c *Call, next Next) error

// yield is what the inner backend gets as the yield of List.
func (c *Call) yield(e Entry) error {
	back := c.leave()
	err := c.Yield(e)
	if err != nil {
		c.Halt = err
	}
	if berr := back(); err == nil {
		err = berr
	}
	return err
}

// leave marks a step into the caller's code.
func (c *Call) leave() (back func() error) {
	if c.Away == nil {
		return func() error { return nil }
	}
	c.steps.Lock()
	defer c.steps.Unlock()
	if c.out++; c.out == 1 {
		c.back = c.Away()
	}
	return c.comeBack
}

// comeBack marks the return from a step.
func (c *Call) comeBack() error {
	c.steps.Lock()
	defer c.steps.Unlock()
	if c.out--; c.out > 0 {
		return nil
	}
	return c.back()
}

// awaySource tells its call of each step into the caller's Source.
type awaySource struct {
	Source
	call *Call
}

// Open implements Source.
func (s *awaySource) Open() (io.ReadCloser, error) {
	back := s.call.leave()
	r, err := s.Source.Open()
	s.call.noteSource(err)
	berr := back()
	switch {
	case err != nil:
		return nil, err
	case berr != nil:
		_ = r.Close() // nothing was read; berr says what is wrong
		return nil, berr
	}
	return &awayReader{r, s.call}, nil
}

type awayReader struct {
	io.ReadCloser
	call *Call
}

// Read implements io.Reader.
func (r *awayReader) Read(p []byte) (int, error) {
	back := r.call.leave()
	n, err := r.ReadCloser.Read(p)
	r.call.noteSource(err)
	if r.call.Sent != nil {
		r.call.Sent(n)
	}
	if berr := back(); err == nil {
		err = berr
	}
	return n, err
}

// Seek implements io.Seeker if the caller's reader does.
func (r *awayReader) Seek(offset int64, whence int) (int64, error) {
	back := r.call.leave()
	at, err := seek(r.ReadCloser, offset, whence)
	if !errors.Is(err, errors.ErrUnsupported) {
		r.call.noteSource(err)
	}
	if berr := back(); err == nil {
		err = berr
	}
	return at, err
}
