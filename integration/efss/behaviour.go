package efss

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"
)

// behaviour is one row of the table of dialects: everything that differs between the
// servers. The rows are in dialects.go and are never changed.
type behaviour struct {
	dialect Dialect

	// Where things are.
	root     string   // URL path of a user's collection; %s is the user, without it "/"
	aliases  []string // further roots; without %s they belong to whoever is logged in
	services bool     // OCS, login flow, app passwords, uploads (Nextcloud)
	tus      bool
	status   statusDoc

	// How answers look.
	every      [][2]string // headers of every answer
	dav        [][2]string // headers of multistatus answers
	options    [][2]string // headers of OPTIONS
	optionsRC  int
	challenges []string // WWW-Authenticate
	errors     errorStyle
	list       listStyle
	gzip       bool // listings are compressed for clients that take it
	putHeaders headerStyle
	getHeaders headerStyle
	moveHeader headerStyle

	// Versions, times and sizes.
	tick      time.Duration // resolution of modification times
	etag      etagForm
	above     propagation
	touchNow  bool  // directories get the present time, not the written file's
	copyKeeps bool  // COPY keeps ETag and mtime
	dirSize   int64 // size shown for a directory; -1: the sum of what is below

	// Properties.
	ids          idForm
	permFile     string // oc:permissions
	permDir      string
	permReadFile string // the same for what SetReadOnly marked
	permReadDir  string
	quota        quotaForm
	sums         sumForm
	deadProps    propRule
	readOnlyRC   int  // status in a PROPPATCH for a property that is the server's own
	setTimes     bool // PROPPATCH d:lastmodified sets the time
	fixedProps   bool // PROPFIND answers the same set whatever is asked
	infinity     depthRule
	noDepth      string // what a PROPFIND without Depth means

	// Conditions.
	getConds     bool // GET honours If-Match, If-None-Match, If-Modified-Since
	putIfMatch   int  // status of a PUT whose If-Match fails; 0: ignored
	putMatchGone bool // If-Match: * on nothing fails as well
	putIfNone    bool // PUT honours If-None-Match
	otherConds   bool // DELETE, MOVE, COPY and PROPPATCH honour If-Match
	fileTags     bool // for conditions, collections have no entity tag
	removedRC    int  // status of a property that PROPPATCH removed; 0: 200
	ifHeader     ifRule

	// Reading.
	ranges    rangeRule
	multi     bool // several ranges give multipart/byteranges, else the whole
	ifRange   ifRangeRule
	emptyRC   int // status of a range of an empty file
	dirGetRC  int
	dirGetTyp string

	// Writing.
	put        putMode
	putNew     int
	putOver    int
	noLength   bool // a body without Content-Length is fine
	contRange  contentRangeRule
	mtime      mtimeRule
	putNoDir   int // status of PUT without parent; 0: the parents are made
	putOnDir   int
	busy       bool // 423 for whoever meets a transfer in progress
	mkcolAgain int  // status of MKCOL on what is there
	mkcolDeep  bool // MKCOL makes the parents
	absentOver bool // a missing Overwrite header means T
	ignoreF    bool // Overwrite: F is not looked at
	pathDest   int  // status for a Destination that is a path only; 0: fine
	moveNoDir  int  // status of MOVE without parent (COPY: 409); 0: the parents are made
	moveNoSrc  int  // status of MOVE of nothing
	dstFirst   bool // MOVE looks at the target before the source, and at both being one before Overwrite
	belowFile  int  // status of what is addressed below a file; 0: as if nothing were there
	anyHost    bool // the host of Destination is not looked at
	moveGap    bool // what MOVE and COPY replace is deleted first: for a moment nothing is there
	moveFull   int  // status of MOVE onto a directory that is not empty; 0: replaces it
	copyRC     int  // status of COPY if it does not work; 0: it does
	copyDepth  bool // COPY honours Depth: 0
	locks      lockRule
	lockNew    int  // status of LOCK where nothing is; 0: refused
	lockNull   bool // LOCK where nothing is makes no file, only a name in listings
	treeLocked int  // status of taking away what holds a locked entry; 0: done
	unknown    int  // status for methods that are not known
	names      nameRule
	nfc        bool // names are normalised
}

type (
	errorStyle       uint8
	headerStyle      uint8
	etagForm         uint8
	propagation      uint8
	idForm           uint8
	quotaForm        uint8
	sumForm          uint8
	propRule         uint8
	depthRule        uint8
	ifRule           uint8
	rangeRule        uint8
	ifRangeRule      uint8
	putMode          uint8
	contentRangeRule uint8
	mtimeRule        uint8
	lockRule         uint8
	nameRule         uint8
	statusDoc        uint8
)

const (
	statusNone statusDoc = iota
	statusNextcloud
	statusOpenCloud
)

const (
	errorsSabre  errorStyle = iota // as PHP's sabre/dav writes them
	errorsOcis                     // the same names on one line, with an errorcode
	errorsReva                     // without the errorcode
	errorsApache                   // HTML
	errorsText                     // the status text
)

const (
	headersNone headerStyle = iota
	headersNextcloud
	headersOcis
	headersETag // only an ETag
	headersApache
)

const (
	etagNone      etagForm = iota
	etagNextcloud          // files: hash of second, id, size; directories: uniqid
	etagNode               // hash of id and mtime in nanoseconds
	etagApache             // size and mtime, weak while fresh
	etagContent            // MD5 of the bytes, files only
	etagCounter            // new with each change
)

const (
	aboveNone      propagation = iota
	aboveAll                   // every ancestor, for any change
	aboveParent                // the parent, when its entries change
	aboveParentAny             // the parent, also when a file in it is written
	aboveReva                  // as aboveParent, with a new ETag only for some changes
)

const (
	idNone idForm = iota
	idNextcloud
	idOcis
	idPath
)

const (
	quotaNone quotaForm = iota
	quotaNextcloud
	quotaUnknown // always -2
)

const (
	sumsNone     sumForm = iota
	sumsAsSent           // kept as the client sent them, not verified
	sumsComputed         // always there; a wrong one is refused
	sumsDigest           // RFC 3230 Want-Digest
)

const (
	propsKept    propRule = iota
	propsRefused          // 403 in the multistatus
	propsBad              // 400 for the request
)

const (
	depthAll    depthRule = iota
	depthRefuse           // 403
	depthBad              // 400
	depthSelf             // answers the resource only
)

const (
	ifIgnored ifRule = iota
	ifHonoured
	ifTokens // a list holds if any of its lock tokens does; all else is not looked at
)

const (
	rangesFull   rangeRule = iota
	rangesRefuse           // 416 for every range
	rangesXRootD           // only a-b inside the file works
)

const (
	ifRangeFull ifRangeRule = iota
	ifRangeIgnored
	ifRangeStrong // a weak tag never matches
)

const (
	putSpool   putMode = iota // atomic: received elsewhere, then renamed
	putOverlay                // Nextcloud: new files so, existing ones in place
	putSalvage                // as putSpool, but what a dead client sent is kept
	putInPlace                // visible from the first byte, kept when the client dies
)

const (
	rangePutRefuse  contentRangeRule = iota // 400
	rangePutUnknown                         // 501
	rangePutPartial                         // writes that part
	rangePutIgnored                         // the body becomes the whole file
)

const (
	mtimeIgnored mtimeRule = iota
	mtimeNextcloud
	mtimeOcis
	mtimeSaidOnly // answered "accepted" and ignored
)

const (
	locksReal   lockRule = iota // exclusive and shared, depth infinity, unmapped names
	locksFlat                   // exclusive, of one resource only
	locksOcis                   // flat; PUT with the token is still refused
	locksDummy                  // answered, without effect
	locksSingle                 // exclusive only, depth infinity
	locksBad                    // 400
)

const (
	namesAny nameRule = iota
	namesNextcloud
	namesOcis
	namesReva   // a newline breaks the listing
	namesRclone // the same
	namesXRootD // "%" and "?" are stored wrongly
	namesApache // ".davfs.tmp*" is left out of listings, ".DAV" is refused
)

// touches tells whether a directory gets a new time and version: direct is the
// parent of what changed.
func (b *behaviour) touches(direct bool, why change) bool {
	switch b.above {
	case aboveAll:
		return true
	case aboveParent, aboveReva:
		return direct && why != changeContent && why != changeTimes
	case aboveParentAny:
		return direct && why != changeTimes
	}
	return false
}

// stampDir gives a directory a new version. Call with store.mu held.
func (b *behaviour) stampDir(s *store, n *node) {
	switch b.etag {
	case etagNextcloud:
		n.ETag = s.uniqid()
	case etagNode, etagCounter:
		n.ETag = hashed(fmt.Sprint(n.ID, s.uniqid()))
	}
}

// stampDirFor is stampDir for a directory whose entries changed.
func (b *behaviour) stampDirFor(s *store, n *node, why change) {
	if b.above == aboveReva && (why == changeAdded || why == changeRenamed) {
		return
	}
	b.stampDir(s, n)
}

// stampFile gives a file the version that belongs to its id, time and size; sum is
// the MD5 of its content where that is the version. Call with store.mu held.
func (b *behaviour) stampFile(s *store, n *node, sum string) {
	switch b.etag {
	case etagNextcloud:
		n.ETag = hashed(fmt.Sprint(n.MTime.Unix(), n.ID, n.Size))
	case etagNode:
		n.ETag = hashed(fmt.Sprint(n.ID, n.MTime.UnixNano()))
	case etagContent:
		n.ETag = sum
	case etagCounter:
		n.ETag = s.uniqid()
	}
}

// quoted returns the entity tag of e with its quotes, or "".
func (b *behaviour) quoted(e info, now time.Time) string {
	switch {
	case b.etag == etagApache:
		size := e.Size
		if e.Dir {
			size = 4096
		}
		tag := fmt.Sprintf(`"%x-%x"`, size, e.MTime.UnixMicro())
		if now.Sub(e.MTime) < time.Second {
			return "W/" + tag
		}
		return tag
	case e.ETag == "":
		return ""
	}
	return `"` + e.ETag + `"`
}

// contentETag returns what stampFile wants of the file's bytes.
func (b *behaviour) contentETag(disk string) (string, error) {
	if b.etag != etagContent {
		return "", nil
	}
	f, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := md5.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

func hashed(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}
