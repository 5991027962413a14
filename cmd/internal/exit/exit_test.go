package exit

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strings"
	"testing"
)

func TestTableIsCompleteAndUnique(t *testing.T) {
	declared := declaredCodes(t)
	rows := Table()
	if len(rows) != declared {
		t.Errorf("%d codes declared, %d in the table", declared, len(rows))
	}
	for i, r := range rows {
		if i > 0 && r.Code <= rows[i-1].Code {
			t.Errorf("code %d does not follow %d: order or double use", r.Code, rows[i-1].Code)
		}
		if r.Code < 0 || r.Code > 255 || r.Meaning == "" {
			t.Errorf("unusable row %+v", r)
		}
	}
}

// declaredCodes counts the constants of type Code in the source.
func declaredCodes(t *testing.T) int {
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Code" {
				n++
			}
		}
		return true
	})
	return n
}

func TestErrorIsOneLineAndKeepsItsCause(t *testing.T) {
	err := New(CacheBad, "choose another", "cannot\nread\x1b[31m %s: %w", "it", fs.ErrPermission)
	if got, want := err.Error(), "cannot read?[31m it: permission denied; choose another"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wrapped := fmt.Errorf("outer: %w", err)
	if !errors.Is(wrapped, fs.ErrPermission) || CodeOf(wrapped) != CacheBad {
		t.Errorf("cause or code lost: %v, %d", wrapped, CodeOf(wrapped))
	}
	if CodeOf(nil) != OK || CodeOf(errors.New("x")) != Failed {
		t.Error("codes of nil and of a plain error")
	}
}

func TestReportWritesOneLine(t *testing.T) {
	var out strings.Builder
	code := Report(&out, New(Usage, "", "bad %s", strings.Repeat("x\n", 5000)))
	if code != Usage || strings.Count(out.String(), "\n") != 1 || out.Len() > 2100 {
		t.Errorf("code %d, %d bytes, %d lines", code, out.Len(), strings.Count(out.String(), "\n"))
	}
	if out.Reset(); Report(&out, Told(New(TLS, "", "bad"))) != TLS || Told(nil) != nil || out.Len() != 0 {
		t.Errorf("told twice: %q", out.String())
	}
	if out.Reset(); Report(&out, nil) != OK || out.Len() != 0 {
		t.Errorf("nil reported as %q", out.String())
	}
}
