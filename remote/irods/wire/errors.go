package wire

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
)

// Error codes that clients and the embedded zone act upon, under shorter names than
// the protocol's (CodeName has those). All are negative. Where a remark says "errno",
// the code comes with the operating system's error subtracted.
const (
	CodeHeaderLength        = -4000
	CodeStartupPack         = -8000
	CodeConnectCount        = -9000
	CodeUnknownAPI          = -12000
	CodeNotAuthenticated    = -13000 // also: only for administrators
	CodePacking             = -15000
	CodeHostName            = -17000
	CodeOutOfDescriptors    = -18000
	CodeDescriptorRange     = -19000
	CodeServerToServer      = -22000
	CodeBadDescriptor       = -23000
	CodeNullInput           = -24000
	CodeInvalidZone         = -26000
	CodeCopyLength          = -27000 // the bytes are not as many as announced
	CodeNoPathPermission    = -36000
	CodeNoCatalogServer     = -37000
	CodeNoObjectPermission  = -40000
	CodeDeleteDisallowed    = -41000
	CodeNoCatalog           = -43000
	CodeCopyInResource      = -46000 // extraction met something that exists
	CodeFork                = -49000
	CodeNotAFile            = -52000
	CodeSpecialType         = -53000
	CodeSpecialCache        = -55000
	CodeSpecialNotExist     = -56000
	CodeSpecialRegister     = -57000
	CodeSpecialTarget       = -58000
	CodeSpecialConflict     = -59000
	CodeSpecialClass        = -60000
	CodeNotSupported        = -66000
	CodeZoneConnect         = -92000
	CodeResourceDown        = -105000
	CodeLinkedPath          = -107000
	CodeOtherZone           = -109000 // a rename between zones
	CodeQuota               = -110000
	CodeSocketTimeout       = -115000
	CodeSocketRead          = -116000
	CodeTooManyConnections  = -118000
	CodeUserNoPermission    = -121000
	CodeInvalidInput        = -130000
	CodeNotImplemented      = -146000
	CodeInternal            = -154000
	CodeSocketWrite         = -161000
	CodeSocketConnect       = -162000
	CodeInProgress          = -163000
	CodeNoSuchReplica       = -164000
	CodeNoGoodReplica       = -166000
	CodeLibrary             = -167000 // the catalog takes no more connections, among others
	CodeReplicaInaccessible = -168000
	CodeNotAllowed          = -169000
	CodeDoesNotExist        = -176000
	CodeAuthentication      = -178000
	CodeSocket              = -179000
	CodeShutdown            = -181000
	CodeConnectionRefused   = -185000
	CodeLogicalQuota        = -186000 // after 5.0.2
	CodeHostConnect         = -305000 // errno
	CodeTextTooLong         = -306000
	CodePackInput           = -308000 // a path that is too long, among others
	CodeNotExist            = -310000 // stat
	CodeFileTooLarge        = -311000 // for what is free on the resource
	CodeOverwriteNoForce    = -312000
	CodeUnmatchedKey        = -313000
	CodeChecksum            = -314000 // the object stays, with the bytes as received
	CodeInputPath           = -317000
	CodeSamePaths           = -339000
	CodePathTooLong         = -346000
	CodeHostTimeout         = -347000
	CodeAccessDenied        = -350000
	CodeHomeNotEmpty        = -354000
	CodeObjectNotExist      = -358000 // open; also without permission
	CodeHashType            = -380000 // the zone insists on one kind of checksum
	CodeInodes              = -400000
	CodeFileSize            = -401000
	CodeParameters          = -402000
	CodeReplicaInput        = -403000
	CodeOpenFlags           = -404000
	CodeIntermediate        = -405000
	CodeObjectLocked        = -406000 // unlink or rename of what is being written
	CodeUnixOpen            = -510000 // errno
	CodeUnixCreate          = -511000 // errno
	CodeUnixRead            = -512000 // errno
	CodeUnixWrite           = -513000 // errno
	CodeUnixClose           = -514000 // errno
	CodeUnixUnlink          = -515000 // errno
	CodeUnixStat            = -516000 // errno
	CodeUnixSeek            = -518000 // errno
	CodeUnixMkdir           = -520000 // errno
	CodeUnixRename          = -528000 // errno
	CodeUnixTruncate        = -529000 // errno
	CodeUnixTimeout         = -540000
	CodeStaging             = -721000
	CodeNoDatabase          = -801000
	CodeDatabaseConnect     = -803000
	CodeCatalogSQL          = -806000 // text that is not UTF-8, among others
	CodeNoRows              = -808000
	CodeExists              = -809000
	CodeUnknownCollection   = -814000
	CodeInvalidType         = -815000
	CodeInvalidArgument     = -816000
	CodeUnknownFile         = -817000
	CodeNoAccess            = -818000
	CodeSuccessNoInfo       = -819000 // nothing matched what was to be removed
	CodeInvalidUserType     = -820000
	CodeCollectionNotEmpty  = -821000
	CodeTooManyTables       = -822000
	CodeUnknownTable        = -823000
	CodeDatabaseNotOpen     = -824000
	CodeWrongPassword       = -826000
	CodeUnknownUser         = -827000
	CodePrivilege           = -830000
	CodeUnknownResource     = -831000
	CodeClientUser          = -832000
	CodeExistsAsCollection  = -833000
	CodeExistsAsObject      = -834000
	CodeNeither             = -836000 // object nor collection
	CodeRecursiveMove       = -837000
	CodePasswordExpired     = -840000
	CodeStatements          = -860000
	CodeTicketInvalid       = -890000
	CodeTicketExpired       = -891000
	CodeTicketUsed          = -892000
	CodeTicketUser          = -893000
	CodeTicketHost          = -894000
	CodeTicketGroup         = -895000
	CodeTicketWrites        = -896000
	CodeTicketBytes         = -897000
	CodePam                 = -993000
	CodePamLife             = -994000
	CodeArgument            = -1084000
	CodeRemoteConnect       = -1116000
	CodeKeyNotFound         = -1800000
	CodeHierarchy           = -1803000 // no usable replica: most often one is being written
	CodeNoNegotiation       = -1815000
	CodeClientNegotiation   = -1824000
	CodeServerNegotiation   = -1825000
	CodeDeprecatedAuth      = -3002000 // comes as a text with status 0
)

// Error is the answer of a server that refuses a call. The connection stays usable.
type Error struct {
	Code int    // negative
	API  int    // number of the call; 0: start-up
	Text string // what the server said, often empty
}

// Error returns "open: HIERARCHY_ERROR (-1803000): text".
func (e *Error) Error() string {
	text := APIName(e.API) + ": " + CodeName(e.Code) + " (" + strconv.Itoa(e.Code) + ")"
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Is makes errors.Is compare with another *Error by Code, and by API if that is set.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.API == 0 || t.API == e.API)
}

// Base returns the code without an errno.
func (e *Error) Base() int { base, _ := Split(e.Code); return base }

// Errno returns the operating system's error that the code carries, 0 if it carries
// none.
func (e *Error) Errno() syscall.Errno { _, errno := Split(e.Code); return errno }

// CodeOf returns the code of the *Error in err's chain, 0 if there is none.
func CodeOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Split separates a code from the errno that the server has subtracted from it, for
// example -510017 into UNIX_FILE_OPEN_ERR and EEXIST. The errno is that of Linux.
func Split(code int) (base int, errno syscall.Errno) {
	if _, ok := names[code]; ok || code >= 0 {
		return code, 0
	}
	rest := -code % 1000
	if _, ok := names[code+rest]; !ok {
		return code, 0
	}
	return code + rest, syscall.Errno(rest)
}

// CodeName returns the name of a code, with the errno's text if it carries one.
func CodeName(code int) string {
	base, errno := Split(code)
	name, ok := names[base]
	switch {
	case !ok:
		return "unknown error"
	case errno != 0:
		return name + ", " + errno.Error()
	}
	return name
}

// Codes returns all known codes and their names.
func Codes() map[int]string {
	all := make(map[int]string, len(names))
	for code, name := range names {
		all[code] = name
	}
	return all
}

// ErrBusy is returned by a call on a connection on which another one is under way.
// Nothing was sent.
var ErrBusy = errors.New("irods: connection is in use")

// ErrClosed is the cause of a BrokenError after Close.
var ErrClosed = errors.New("irods: connection is closed")

// ErrFrame is the cause of a BrokenError after an answer that is not iRODS: lengths
// out of bounds, a garbled header, a wrong type of message.
var ErrFrame = errors.New("bad frame")

// BrokenError is returned by a call that could not be finished: the network failed,
// the context ended, the answer was garbage. The connection is of no more use.
type BrokenError struct {
	API int
	// Sent tells that the last byte of the request was handed to the network, so that
	// the server may have carried it out. Without that byte it carries out nothing: it
	// reads a request as a whole first. So a call with Sent false may be made again.
	Sent bool
	Err  error // cause; the context's error if that has ended
}

// Error returns "open: connection broken: cause".
func (e *BrokenError) Error() string {
	return APIName(e.API) + ": connection broken: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Err }

// NegotiationError tells that client and server cannot agree on whether to use TLS.
type NegotiationError struct{ Client, Server Policy }

// Error names the policies.
func (e *NegotiationError) Error() string {
	return fmt.Sprintf("TLS negotiation failed: client says %s, server %s", e.Client, e.Server)
}
