package wire

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestSplit(t *testing.T) {
	for code, want := range map[int]struct {
		base  int
		errno syscall.Errno
	}{
		-510017:  {-510000, syscall.EEXIST},
		-511036:  {-511000, syscall.ENAMETOOLONG},
		-510024:  {-510000, syscall.EMFILE},
		-512009:  {-512000, syscall.EBADF},
		-1100:    {-1100, 0}, // a code of its own
		-1013:    {-1000, syscall.EACCES},
		-1803000: {-1803000, 0},
		-9999999: {-9999999, 0}, // unknown
		0:        {0, 0},
		3:        {3, 0},
	} {
		if base, errno := Split(code); base != want.base || errno != want.errno {
			t.Errorf("Split(%d) = %d, %v", code, base, errno)
		}
	}
}

func TestErrorText(t *testing.T) {
	err := fmt.Errorf("outer: %w", &Error{Code: -510017, API: APIDataObjOpen, Text: "why"})
	if got := err.Error(); got != "outer: open: UNIX_FILE_OPEN_ERR, file exists (-510017): why" {
		t.Error(got)
	}
	if CodeOf(err) != -510017 || CodeOf(errors.New("x")) != 0 {
		t.Error("CodeOf")
	}
	if !errors.Is(err, &Error{Code: -510017}) || errors.Is(err, &Error{Code: -510017, API: 601}) || errors.Is(err, &Error{Code: -510000}) {
		t.Error("Is")
	}
	var e *Error
	if !errors.As(err, &e) || e.Base() != CodeUnixOpen || e.Errno() != syscall.EEXIST {
		t.Error("Base or Errno")
	}
	if got := CodeName(-9999999); got != "unknown error" {
		t.Error(got)
	}
	if got := APIName(4242); got != "call 4242" {
		t.Error(got)
	}
}

// TestCodes checks that each constant Code... stands for a code of the protocol, and
// each API... has a name.
func TestCodes(t *testing.T) {
	codes, apis := 0, 0
	for _, file := range []string{"errors.go", "api.go"} {
		eachConstant(t, file, func(name string, value int) {
			if strings.HasPrefix(name, "Code") {
				codes++
				if _, ok := Codes()[value]; !ok {
					t.Errorf("%s = %d is no code", name, value)
				}
			}
			if strings.HasPrefix(name, "API") {
				apis++
				if strings.HasPrefix(APIName(value), "call ") {
					t.Errorf("%s has no name", name)
				}
			}
		})
	}
	if codes < 60 || apis < 40 || len(Codes()) < 600 {
		t.Errorf("%d codes, %d calls, %d names", codes, apis, len(Codes()))
	}
}

// eachConstant calls f for each constant with a plain number in a source file.
func eachConstant(t *testing.T, file string, f func(name string, value int)) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		expr, sign := spec.Values[0], 1
		if u, ok := expr.(*ast.UnaryExpr); ok && u.Op == token.SUB {
			expr, sign = u.X, -1
		}
		if lit, ok := expr.(*ast.BasicLit); ok && lit.Kind == token.INT {
			value, _ := strconv.Atoi(lit.Value)
			f(spec.Names[0].Name, sign*value)
		}
		return true
	})
}
