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

// codeKinds is the one table from codes (without errno) to Kind. What a code means
// beyond it depends on the call; see explain and busy.
var codeKinds = map[int]remote.Kind{
	wire.CodeNotExist:           remote.NotExist,
	wire.CodeObjectNotExist:     remote.NotExist,
	wire.CodeNoRows:             remote.NotExist,
	wire.CodeUnknownCollection:  remote.NotExist,
	wire.CodeUnknownFile:        remote.NotExist,
	wire.CodeInvalidZone:        remote.NotExist,
	wire.CodeNoSuchReplica:      remote.NotExist,
	wire.CodeOverwriteNoForce:   remote.Exist,
	wire.CodeExists:             remote.Exist,
	wire.CodeExistsAsObject:     remote.Exist,
	wire.CodeExistsAsCollection: remote.IsDir,
	wire.CodeNotAFile:           remote.IsDir,
	wire.CodeCollectionNotEmpty: remote.NotEmpty,
	wire.CodeNoAccess:           remote.Permission,
	wire.CodeNoPathPermission:   remote.Permission,
	wire.CodeNotAllowed:         remote.Permission,
	wire.CodeNotAuthenticated:   remote.Permission, // only for administrators
	wire.CodeInvalidUserType:    remote.Permission,
	wire.CodeTicketInvalid:      remote.Permission,
	wire.CodeTicketExpired:      remote.Permission,
	wire.CodeTicketUsed:         remote.Permission,
	wire.CodeTicketUser:         remote.Permission,
	wire.CodeWrongPassword:      remote.Auth,
	wire.CodeUnknownUser:        remote.Auth,
	wire.CodePasswordExpired:    remote.Auth,
	wire.CodePam:                remote.Auth,
	wire.CodeHierarchy:          remote.Locked,
	wire.CodeObjectLocked:       remote.Locked,
	wire.CodeIntermediate:       remote.Locked,
	wire.CodeQuota:              remote.NoSpace,
	wire.CodePackInput:          remote.NameTooLong,
	wire.CodePathTooLong:        remote.NameTooLong,
	wire.CodeInputPath:          remote.Invalid,
	wire.CodeInvalidInput:       remote.Invalid,
	wire.CodeInvalidArgument:    remote.Invalid,
	wire.CodeSamePaths:          remote.Invalid,
	wire.CodeCatalogSQL:         remote.Invalid, // text that is not UTF-8
	wire.CodeUnknownAPI:         remote.Unsupported,
	wire.CodeChecksum:           remote.Corrupt,
	wire.CodeNoGoodReplica:      remote.Corrupt,
	wire.CodePacking:            remote.Corrupt,
	wire.CodeLibrary:            remote.Unavailable, // the catalog takes no more connections
	wire.CodeTooManyConnections: remote.Unavailable,
	wire.CodeOutOfDescriptors:   remote.Unavailable,
	wire.CodeInternal:           remote.Unavailable,
	wire.CodeUnknownResource:    remote.Invalid,
	// The host of the resource cannot be reached.
	wire.CodeReplicaInaccessible: remote.Unavailable,
	wire.CodeHostName:            remote.Unavailable,
}

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
	syscall.ETIMEDOUT:    remote.Unavailable,
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

// fail turns what a call returned into the contract's error. change tells that the
// call may have altered something.
func fail(ctx context.Context, op, rel string, change bool, err error) error {
	var (
		done    *remote.Error
		refused *wire.Error
		broken  *wire.BrokenError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.As(err, &refused):
		return &remote.Error{Op: op, Path: rel, Kind: kindOf(refused), Err: err}
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
