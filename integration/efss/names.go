package efss

import (
	"net/http"
	"strings"
)

// checkName refuses what the dialect does not let be made under this name.
func (q *request) checkName(path string) error {
	_, name := splitPath(path)
	switch q.b().names {
	case namesNextcloud:
		return checkNextcloud(name)
	case namesOcis:
		if strings.ContainsAny(name, "\\\n") || len(name) > 255 {
			return fail(http.StatusBadRequest, "invalid file name")
		}
	}
	if len(name) > 255 {
		return fail(http.StatusBadRequest, "The name is too long")
	}
	return nil
}

// checkNextcloud knows the defaults of Nextcloud 34: see files.forbidden_filename*
// in the capabilities.
func checkNextcloud(name string) error {
	bad := func(message string) error {
		return &failure{status: http.StatusBadRequest, message: message, exception: `OCA\DAV\Connector\Sabre\Exception\InvalidPath`}
	}
	lower := strings.ToLower(name)
	switch {
	case lower == ".htaccess":
		return fail(http.StatusInternalServerError, `".htaccess" is a forbidden file or folder name.`)
	case strings.ContainsAny(name, `\/`):
		return bad(`File name contains at least one invalid character`)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }):
		return bad("File name contains at least one invalid character")
	case strings.HasSuffix(lower, ".part"), strings.HasSuffix(lower, ".filepart"):
		return bad("This file type is forbidden")
	case len(name) > 250:
		return bad("File name is too long")
	}
	return nil
}

// escapePath escapes a URL path as sabre does.
func escapePath(path string) string {
	st := listStyle{}
	return st.href(path)
}
