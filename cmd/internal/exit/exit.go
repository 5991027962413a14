// Package exit holds the table of exit codes and the error that carries one of
// them from any depth of the command to main.
//
// The codes are an interface: scripts and job prologues test them. A code once
// given keeps its meaning; new ones are added at the end of their group.
package exit

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Code is the exit status of the process.
type Code int

// The exit codes. See Table for their meanings.
const (
	OK     Code = 0
	Failed Code = 1
	Usage  Code = 2
	Config Code = 3
	BadURL Code = 4

	SecretMissing  Code = 10
	SecretUnusable Code = 11
	AuthFailed     Code = 12
	Denied         Code = 13

	UnknownHost   Code = 20
	Unreachable   Code = 21
	TLS           Code = 22
	NotCollection Code = 23
	ServerTrouble Code = 24

	MountPointMissing  Code = 30
	MountPointNotDir   Code = 31
	MountPointNotEmpty Code = 32
	AlreadyMounted     Code = 33
	DeadMount          Code = 34
	MountFailed        Code = 35
	NoFUSE             Code = 36

	CacheBusy   Code = 40
	CacheBad    Code = 41
	CacheBroken Code = 42

	NotMounted     Code = 50
	UnmountBusy    Code = 51
	UnmountTimeout Code = 52
	DataLeft       Code = 53
	UnmountFailed  Code = 54
	NotYours       Code = 55
	NoAnswer       Code = 56
	NoChange       Code = 57

	DoctorFailed Code = 60

	Interrupted Code = 130
)

// Row is one line of the table of exit codes.
type Row struct {
	Code    Code
	Meaning string
}

// Table returns all exit codes in ascending order, for help texts and manuals.
func Table() []Row {
	return []Row{
		{OK, "success; for mount: the mount answers"},
		{Failed, "an error that has no code of its own"},
		{Usage, "wrong command line: unknown command or flag, missing or surplus argument, bad value"},
		{Config, "the configuration file or the environment: not readable, bad syntax, unknown key, bad value"},
		{BadURL, "a branch's name or URL is not usable"},
		{SecretMissing, "a password or token is needed and none was given"},
		{SecretUnusable, "a secret's file or command failed, or its file is not private"},
		{AuthFailed, "the server refused the credentials (one attempt was made)"},
		{Denied, "the server refuses this user access to the share or collection"},
		{UnknownHost, "a host name is not known"},
		{Unreachable, "connection refused, no route, or no answer in time"},
		{TLS, "the server's certificate is expired, for another host, or not trusted; or the two sides do not agree on TLS"},
		{NotCollection, "the URL is not a WebDAV or iRODS collection, or the server is too old"},
		{ServerTrouble, "the server answered with an error or in maintenance, or takes no more connections"},
		{MountPointMissing, "the mount point does not exist"},
		{MountPointNotDir, "the mount point is not a directory, or not accessible"},
		{MountPointNotEmpty, "the mount point is not empty"},
		{AlreadyMounted, "meshmount is mounted there already"},
		{DeadMount, "a mount whose process has died is in the way"},
		{MountFailed, "the kernel or fusermount3 refused the mount"},
		{NoFUSE, "FUSE is not available: no /dev/fuse, or no fusermount3"},
		{CacheBusy, "another process uses the cache directory"},
		{CacheBad, "the cache directory cannot be used: owner, permissions, or disk"},
		{CacheBroken, "blocks of the cache fail their checks"},
		{NotMounted, "no meshmount mount at that place"},
		{UnmountBusy, "the mount is in use"},
		{UnmountTimeout, "unmounted, but its process has not ended in time"},
		{DataLeft, "some written data did not reach its server, when unmounting not in time; it is kept on this node, and the message says where"},
		{UnmountFailed, "the kernel or fusermount3 refused the unmount"},
		{NotYours, "the mount belongs to another user"},
		{NoAnswer, "the mount's process does not answer"},
		{NoChange, "there is no change with that number, or it is not one that this can be done with"},
		{DoctorFailed, "doctor found something that will not work"},
		{Interrupted, "interrupted by a signal before it was done"},
	}
}

// Error is a failure with its exit code, one line of text, and what to do about it.
type Error struct {
	Code   Code
	What   string // the thing and what is wrong with it
	Remedy string // what the user can do; may be empty
	Err    error  // cause, for errors.Is; not printed
}

// Error returns "what; remedy" on one line.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return OneLine(e.What)
	}
	return OneLine(e.What + "; " + e.Remedy)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an Error whose What is formatted. An argument for %w is kept as its cause.
func New(code Code, remedy, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Code: code, What: wrapped.Error(), Remedy: remedy, Err: errors.Unwrap(wrapped)}
}

// CodeOf returns the exit code that err carries: OK for nil, Failed if it has none.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Failed
}

// Told returns an error with the code of err whose text was given to the user by
// other means: Report stays silent on it.
func Told(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: CodeOf(err), Err: err}
}

// Report writes err as one line "meshmount: ..." and returns its code.
func Report(w io.Writer, err error) Code {
	if e, ok := errors.AsType[*Error](err); ok && e.What == "" {
		return e.Code
	}
	if err != nil {
		_, _ = fmt.Fprintf(w, "meshmount: %s\n", OneLine(err.Error()))
	}
	return CodeOf(err)
}

const longest = 2000

// OneLine makes s fit for one line of a terminal: line breaks become spaces, other
// control characters question marks, and an absurdly long text is cut.
func OneLine(s string) string {
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "?") + "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
}
