package webdav

import (
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// The dialects, as in Options.Dialect and Info.Dialect.
const (
	Nextcloud = "nextcloud" // Nextcloud 28 and later
	OCIS      = "ocis"      // oCIS and OpenCloud
	Reva      = "reva"      // Reva, the server below CERNBox
	ModDAV    = "mod_dav"   // Apache httpd
	Rclone    = "rclone"    // rclone serve webdav
	XRootD    = "xrootd"    // XRootD with XrdHttp
	Unknown   = "unknown"   // anything else
)

// Dialects returns the names of all dialects.
func Dialects() []string {
	names := make([]string, len(table))
	for i := range table {
		names[i] = table[i].name
	}
	return names
}

// tagRule says what entity tags there are and what they are worth.
type tagRule uint8

const (
	tagsTrusted tagRule = iota // on files and directories; equal means unchanged, by the racy rule
	tagsFiles                  // on files only, or of no worth on directories
	tagsNone                   // none: mtime and size take their place
)

// putWay is a way to store a file.
type putWay uint8

const (
	wayPut     putWay = iota // a plain PUT
	wayChunked               // chunked upload v2: MKCOL, PUT the chunks, MOVE
	wayTus                   // tus: POST, PATCH
	wayTemp                  // PUT to a temporary name, MOVE
)

// traits is one row of the table: everything that differs between dialects.
type traits struct {
	name string

	// Versions and times.
	tags       tagRule
	uploadTime bool // nc:upload_time tells client-set mtimes
	checksums  bool // oc:checksums is the server's own, and part of the Version
	hashTags   bool // a tag of 32 hex digits is a hash of the content
	propagates bool // a directory's tag changes with anything below it
	setTime    bool // PROPPATCH d:lastmodified sets the mtime
	sendTime   bool // X-OC-Mtime or the tus metadata set it with the upload
	deadProps  bool // dead properties are kept
	dirProps   bool // a directory's tag changes with the first of them, not with later ones
	family     bool // oc: properties exist
	stableIDs  bool // oc:id stays over a rename (Reva's is made of the path)

	// Reading.
	ranges    bool // single ranges work
	sizedOnly bool // only ranges that end within the file work
	getMatch  bool // GET honours If-Match
	recheck   bool // an equal tag may cover a change: look again after a part was read

	// Writing.
	fresh, over putWay // for a name that is free, for a file that is there
	atomicPut   bool
	noneMatch   bool // PUT honours If-None-Match: *
	otherMatch  bool // DELETE of a file honours If-Match with a strong tag
	dirMatch    bool // DELETE of a directory does
	tagged      bool // MOVE honours If with the tag of its destination
	honoursF    bool // MOVE honours Overwrite: F
	deepMkcol   bool // missing parents are made without a word
	deepMove    bool // or by MOVE
	movesInto   bool // MOVE to the name of a directory moves into that, or may
	againMkcol  bool // MKCOL of what exists says 201
	askHash     bool // PUT answers X-Hash with the hash of what was stored
	wantDigest  bool // HEAD answers Want-Digest: adler32
	expect      bool // Expect: 100-continue is understood
	stream      streamRule
	putRanges   bool // PUT with Content-Range writes a part of a file

	create, overwrite, remove remote.Guard

	// Names.
	maxName   int
	control   bool     // control characters survive
	bytes     bool     // bytes that are not UTF-8 do
	refused   string   // characters that do not
	names     []string // whole names that cannot be used, in lower case
	basenames []string // the same for the part before the first dot
	starts    []string // beginnings that cannot be used
	endings   []string // endings that cannot be used, in lower case
	nfc       bool     // names are stored in Unicode's form C
}

// table is the capability table. Facts are as measured on Nextcloud 34.0.1 and
// 32.0.2, OpenCloud 0.1.0, Reva v3 with its localhome driver, Apache 2.4.71,
// rclone 1.60.1 and XRootD 5.5.3. Capabilities that a server announces (limits of
// chunks, forbidden names, tus) are filled in by Dial.
//
// atomicPut: where a MOVE replaces the file, old or new content is all that is ever
// there, also after a cut. It is still not said of Rclone and Unknown: servers that
// delete the destination of a MOVE first (rclone does) show no file for an instant,
// and none at all if they die in it.
//
// The guards grade what a server looks at in the same request as GuardAtomic, with
// these exceptions. mod_dav looks at the conditions of a PUT when it begins and puts
// the file in place when it ends: of eight exclusive creations at once several
// succeed. Its tag is also weak while a file is younger than about two seconds, and
// weak tags never match. tus checks If-Match when the upload begins.
var table = [...]traits{
	{
		name: Nextcloud,
		tags: tagsTrusted, uploadTime: true, propagates: true, setTime: true, sendTime: true,
		deadProps: true, family: true, stableIDs: true,
		ranges: true, getMatch: true, recheck: true,
		fresh: wayPut, over: wayChunked, atomicPut: true,
		noneMatch: true, otherMatch: true, tagged: true, honoursF: true, askHash: true, expect: true, stream: streamTemp,
		create: remote.GuardAtomic, overwrite: remote.GuardAtomic, remove: remote.GuardLook,
		maxName: 250, refused: `\`, names: []string{".htaccess"}, endings: []string{".part", ".filepart"}, nfc: true,
	},
	{
		name: OCIS,
		tags: tagsTrusted, checksums: true, propagates: true, sendTime: true, deadProps: true, family: true, stableIDs: true,
		ranges: true,
		fresh:  wayTus, over: wayTus, atomicPut: true,
		honoursF: true, expect: true,
		create: remote.GuardAtomic, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255, refused: `\`,
	},
	{
		name: Reva,
		tags: tagsFiles, sendTime: true, deadProps: true, family: true,
		ranges: true, // its local driver refuses all of them, which the first read finds out
		fresh:  wayTemp, over: wayTemp, atomicPut: true,
		honoursF: true, expect: true,
		create: remote.GuardAtomic, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255,
	},
	{
		name: ModDAV,
		tags: tagsTrusted, deadProps: true, dirProps: true,
		ranges: true,
		fresh:  wayPut, over: wayPut, atomicPut: true,
		noneMatch: true, otherMatch: true, dirMatch: true, honoursF: true, expect: true, stream: streamPut, putRanges: true,
		create: remote.GuardLook, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255, control: true, bytes: true, names: []string{".htaccess", ".dav"}, starts: []string{".davfs.tmp"},
	},
	{
		name: Rclone,
		tags: tagsFiles, hashTags: true,
		ranges: true, getMatch: true,
		fresh: wayTemp, over: wayTemp,
		honoursF: true, againMkcol: true, expect: true, stream: streamTemp,
		create: remote.GuardAtomic, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255,
	},
	{
		name:   XRootD,
		tags:   tagsNone,
		ranges: true, sizedOnly: true, recheck: true,
		fresh: wayTemp, over: wayTemp, atomicPut: true,
		deepMkcol: true, againMkcol: true, wantDigest: true,
		create: remote.GuardLook, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255, refused: "%?",
	},
	{
		name: Unknown,
		tags: tagsFiles, deadProps: true,
		ranges: true,
		fresh:  wayTemp, over: wayTemp,
		deepMove: true, movesInto: true, honoursF: true, againMkcol: true, stream: streamTemp,
		create: remote.GuardLook, overwrite: remote.GuardLook, remove: remote.GuardLook,
		maxName: 255,
	},
}

// aliases are other names by which a dialect may be asked for.
var aliases = map[string]string{"opencloud": OCIS, "apache": ModDAV, "generic": Unknown}

// rowOf returns a copy of the row of a dialect.
func rowOf(name string) (traits, bool) {
	if main, ok := aliases[name]; ok {
		name = main
	}
	i := slices.IndexFunc(table[:], func(t traits) bool { return t.name == name })
	if i < 0 {
		return traits{}, false
	}
	return table[i], true
}
