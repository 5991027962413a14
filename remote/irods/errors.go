package irods

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// kindCodes is the one table from codes (without errno) to Kind. What a code means beyond
// it depends on the call; see explainNew, atRest and the reading.
var kindCodes = map[remote.Kind][]int{
	remote.NotExist: {
		wire.CodeNotExist, wire.CodeObjectNotExist, wire.CodeNoRows, wire.CodeUnknownCollection, wire.CodeUnknownFile,
		wire.CodeInvalidZone, wire.CodeNoSuchReplica, wire.CodeDoesNotExist, wire.CodeNeither,
	},
	remote.Exist:    {wire.CodeOverwriteNoForce, wire.CodeExists, wire.CodeExistsAsObject},
	remote.IsDir:    {wire.CodeExistsAsCollection, wire.CodeNotAFile},
	remote.NotEmpty: {wire.CodeCollectionNotEmpty},
	remote.Permission: {
		wire.CodeNoAccess, wire.CodeNoPathPermission, wire.CodeNoObjectPermission, wire.CodeUserNoPermission,
		wire.CodeAccessDenied, wire.CodeNotAllowed, wire.CodeDeleteDisallowed, wire.CodePrivilege,
		wire.CodeNotAuthenticated, // only for administrators
		wire.CodeInvalidUserType, wire.CodeHomeNotEmpty,
		wire.CodeTicketInvalid, wire.CodeTicketExpired, wire.CodeTicketUsed, wire.CodeTicketUser,
		wire.CodeTicketHost, wire.CodeTicketGroup, wire.CodeTicketWrites, wire.CodeTicketBytes,
	},
	remote.Auth: {
		wire.CodeWrongPassword, wire.CodeUnknownUser, wire.CodePasswordExpired, wire.CodePam, wire.CodePamLife,
		wire.CodeAuthentication, wire.CodeClientUser,
	},
	remote.Locked: {
		wire.CodeHierarchy, wire.CodeObjectLocked, wire.CodeIntermediate, wire.CodeInProgress,
	},
	remote.NoSpace: {wire.CodeQuota, wire.CodeLogicalQuota, wire.CodeFileTooLarge, wire.CodeInodes},
	remote.NameTooLong: {
		wire.CodePackInput, wire.CodePathTooLong, wire.CodeTextTooLong,
	},
	remote.Invalid: {
		wire.CodeInputPath, wire.CodeInvalidInput, wire.CodeInvalidArgument, wire.CodeSamePaths, wire.CodeUnknownResource,
		wire.CodeParameters, wire.CodeArgument, wire.CodeInvalidType, wire.CodeRecursiveMove,
	},
	remote.Unsupported: {
		wire.CodeHashType, wire.CodeUnknownAPI, wire.CodeNotSupported, wire.CodeNotImplemented, wire.CodeLinkedPath,
		wire.CodeSpecialType, wire.CodeSpecialCache, wire.CodeSpecialNotExist, wire.CodeSpecialRegister,
		wire.CodeSpecialTarget, wire.CodeSpecialConflict, wire.CodeSpecialClass,
	},
	remote.Corrupt:     {wire.CodeChecksum, wire.CodeNoGoodReplica, wire.CodePacking, wire.CodeCopyLength, wire.CodeFileSize},
	remote.CrossDevice: {wire.CodeOtherZone},
	remote.Unavailable: {
		wire.CodeLibrary, // the catalog takes no more connections
		wire.CodeTooManyConnections, wire.CodeOutOfDescriptors, wire.CodeStatements, wire.CodeInternal, wire.CodeFork,
		wire.CodeShutdown, wire.CodeNoCatalog, wire.CodeNoCatalogServer, wire.CodeNoDatabase, wire.CodeDatabaseConnect,
		wire.CodeDatabaseNotOpen,
		wire.CodeCatalogSQL, // also for text that is not UTF-8, but that never goes out
		wire.CodeResourceDown, wire.CodeStaging, wire.CodeUnixTimeout,
		// Another server, of the resource or the zone, cannot be reached.
		wire.CodeReplicaInaccessible, wire.CodeHostName, wire.CodeServerToServer, wire.CodeHostConnect, wire.CodeHostTimeout,
		wire.CodeSocketTimeout, wire.CodeSocketRead, wire.CodeSocketWrite, wire.CodeSocketConnect, wire.CodeSocket,
		wire.CodeConnectionRefused, wire.CodeRemoteConnect, wire.CodeZoneConnect,
	},
}

// codeKinds is kindCodes the other way round.
var codeKinds = func() map[int]remote.Kind {
	all := map[int]remote.Kind{}
	for kind, codes := range kindCodes {
		for _, c := range codes {
			all[c] = kind
		}
	}
	return all
}()

// errnoKinds is the table for codes that carry an error of the server's storage.
var errnoKinds = map[syscall.Errno]remote.Kind{
	syscall.ENOENT:       remote.NotExist,
	syscall.EEXIST:       remote.Exist,
	syscall.EACCES:       remote.Permission,
	syscall.EPERM:        remote.Permission,
	syscall.EROFS:        remote.Permission,
	syscall.ENOTDIR:      remote.NotDir,
	syscall.EISDIR:       remote.IsDir,
	syscall.ENOTEMPTY:    remote.NotEmpty,
	syscall.ENOSPC:       remote.NoSpace,
	syscall.EDQUOT:       remote.NoSpace,
	syscall.EFBIG:        remote.TooLarge,
	syscall.ENAMETOOLONG: remote.NameTooLong,
	syscall.EINVAL:       remote.Invalid,
	syscall.EMFILE:       remote.Unavailable,
	syscall.ENFILE:       remote.Unavailable,
	syscall.EBUSY:        remote.Locked,
	syscall.EIO:          remote.Unavailable,
	syscall.EAGAIN:       remote.Unavailable,
	syscall.ENOMEM:       remote.Unavailable,
	syscall.ESTALE:       remote.Unavailable,
	syscall.EPIPE:        remote.Unavailable,
	syscall.ETIMEDOUT:    remote.Unavailable,
	syscall.ECONNRESET:   remote.Unavailable,
	syscall.ECONNREFUSED: remote.Unavailable,
	syscall.EHOSTUNREACH: remote.Unavailable,
	syscall.ENETUNREACH:  remote.Unavailable,
	syscall.EHOSTDOWN:    remote.Unavailable,
}

// kindOf returns the Kind of a server's refusal.
func kindOf(e *wire.Error) remote.Kind {
	if kind, ok := codeKinds[e.Base()]; ok {
		return kind
	}
	if kind, ok := errnoKinds[e.Errno()]; ok {
		return kind
	}
	return remote.Other
}

// atRest tells what it means that the server has no replica to open, for which it has one
// code: if nobody writes the object, its storage cannot be reached or is full.
func (b *Backend) atRest(ctx context.Context, s *session, op, rel string, err error) error {
	if code(err) != wire.CodeHierarchy {
		return err
	}
	f, lookErr := b.lookAt(ctx, s, b.full(rel))
	if lookErr != nil {
		return err
	}
	if f.object != nil {
		if _, state := f.object.best(); state == writing {
			return err
		}
	}
	return &remote.Error{Op: op, Path: rel, Kind: remote.Unavailable, Err: err}
}

// fail turns what a call returned into the contract's error. change tells that the
// call may have altered something.
func fail(ctx context.Context, op, rel string, change bool, err error) error {
	var (
		done    *remote.Error
		refused *wire.Error
		broken  *wire.BrokenError
		blind   unseen
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.As(err, &refused):
		return &remote.Error{Op: op, Path: rel, Kind: kindOf(refused), Err: err}
	case errors.As(err, &blind):
		return &remote.Error{Op: op, Path: rel, Kind: kindOfErr(blind.err), Err: err, Unsure: change}
	}
	if ended := remote.ContextErr(ctx); ended != nil {
		return ended
	}
	e := &remote.Error{Op: op, Path: rel, Kind: remote.Other, Err: err}
	if errors.As(err, &broken) {
		e.Kind, e.Unsure = remote.Unavailable, change && broken.Sent
		if errors.Is(err, wire.ErrFrame) || errors.Is(err, wire.ErrPacking) {
			e.Kind = remote.Corrupt
		}
	}
	return e
}

// dialFailure turns the error of wire.Dial into the contract's.
func dialFailure(ctx context.Context, err error) error {
	var (
		negotiation *wire.NegotiationError
		certificate *tls.CertificateVerificationError
		network     net.Error
	)
	if ended := remote.ContextErr(ctx); ended != nil {
		return ended
	}
	e := &remote.Error{Op: "connect", Kind: remote.Unavailable, Err: err}
	switch {
	case errors.As(err, &negotiation), errors.Is(err, wire.ErrNoTLS):
		e.Kind = remote.Unsupported
	case errors.As(err, &certificate):
		e.Kind = remote.Permission
	case errors.Is(err, wire.ErrPasswordLength):
		e.Kind = remote.Auth
	case errors.As(err, &network):
	default:
		return fail(ctx, "connect", "", false, err)
	}
	return e
}

// code returns the code of a server's refusal without its errno, 0 if err is none.
func code(err error) int {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Base()
	}
	return 0
}
