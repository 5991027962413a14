package remote

import (
	"errors"
	"strings"
)

// MaxPath is the longest path in bytes that any layer accepts (PATH_MAX).
const MaxPath = 4096

// CheckPath returns an *Error of kind Invalid or NameTooLong if path is not of the
// form that the package documentation describes.
func CheckPath(op, path string) error {
	bad := func(k Kind, why string) error { return &Error{Op: op, Path: path, Kind: k, Err: errors.New(why)} }
	switch {
	case len(path) > MaxPath:
		return &Error{Op: op, Path: path[:64] + "...", Kind: NameTooLong}
	case path == "" || path[0] != '/':
		return bad(Invalid, "path is not rooted")
	case path == "/":
		return nil
	case strings.IndexByte(path, 0) >= 0:
		return bad(Invalid, "NUL in path")
	}
	for rest := path[1:]; ; {
		name, tail, more := strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." {
			return bad(Invalid, "path is not clean")
		}
		if !more {
			return nil
		}
		rest = tail
	}
}

// Join returns the child of dir with the given name.
func Join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// Split returns the parent directory and the last name of path. For "/" it returns
// "/" and "".
func Split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/", path[i+1:]
	}
	return path[:i], path[i+1:]
}

// Within tells whether path is dir or lies below it.
func Within(path, dir string) bool {
	return path == dir || dir == "/" || (strings.HasPrefix(path, dir) && path[len(dir)] == '/')
}
