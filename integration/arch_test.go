package integration_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

const module = "github.com/meshmount/meshmount"

// layers is the import table: what the code of a package may import of ours.
// A trailing "/..." means the package and all below it. Arrows only go
// cmd -> fs/mount, fs/control -> fs -> prefetch, cache/writeback, cache -> remote
// <- remote/*. A package that is not listed may not exist.
var layers = map[string][]string{
	"cmd/meshmount": {"cmd/internal/...", "cmd/meshmount/...", "fs/...", "cache/...", "prefetch", "remote/..."},
	"cmd/internal":  {"cmd/internal/...", "fs/...", "cache/...", "prefetch", "remote/..."},
	"cmd/meshdemo":  {"cmd/internal/...", "fs/...", "cache/...", "prefetch", "remote/...", "integration/..."},

	"fs":              {"remote", "cache", "cache/writeback", "prefetch"},
	"fs/mount":        {"fs", "remote"},
	"fs/control":      {"remote"},
	"cache":           {"remote"},
	"cache/writeback": {"remote", "cache"},
	"prefetch":        {"remote"},

	"remote":                 {},
	"remote/memory":          {"remote"},
	"remote/remotetest":      {"remote", "remote/memory"},
	"remote/webdav":          {"remote"},
	"remote/irods":           {"remote", "remote/irods/wire"},
	"remote/irods/wire":      {},
	"remote/archive":         {"remote"},
	"remote/archive/keep":    {"remote", "remote/archive"},
	"remote/archive/foreign": {"remote"},
	"remote/browse":          {"remote", "remote/archive/foreign"},
	"integration":            {},
	"integration/efss":       {"..."},
	"integration/httpd":      {"..."},
	"integration/zone":       {"..."},
	"integration/harness":    {"..."},
	"integration/posix":      {"..."},
	"integration/write":      {"..."},
	"integration/bench":      {"..."},
	"integration/bench/wan":  {"..."},
}

// forTests may be imported by every package's tests, besides the package itself
// and what its code may import.
var forTests = []string{"remote", "remote/memory", "remote/remotetest", "remote/webdav", "remote/archive/keep", "cache", "integration/...", "cmd/internal/..."}

// owners says which packages' code may import an external library, by module.
// Tests in the integration directory may import every one of them.
var owners = map[string][]string{
	"github.com/dgraph-io/badger":    {"cache/..."},
	"github.com/hanwen/go-fuse":      {"fs/mount"},
	"github.com/studio-b12/gowebdav": {"remote/webdav"},
	"github.com/spf13/cobra":         {"cmd/..."},
	"github.com/spf13/pflag":         {"cmd/..."},
	"github.com/pelletier/go-toml":   {"cmd/..."},
	"golang.org/x/term":              {"cmd/..."},
	"github.com/sony/gobreaker":      {"remote"},
	"github.com/cenkalti/backoff":    {"remote"},
	"golang.org/x/sync":              {"remote"},
	"golang.org/x/time":              {"remote"},
	"golang.org/x/net/webdav":        {"integration/efss"},
	"golang.org/x/sys":               {"..."},
	"pgregory.net/rapid":             {"remote/remotetest"},
}

// testsOnly are libraries that any test may import.
var testsOnly = []string{"pgregory.net/rapid"}

// goPackage is what "go list -json" tells of a package.
type goPackage struct {
	ImportPath   string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	CgoFiles     []string
}

// path returns the package's path below the module.
func (p goPackage) path() string { return below(p.ImportPath) }

func below(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// TestImports checks every package against the import table and the owners.
func TestImports(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < 5 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		allowed, ok := layerOf(p.path())
		if !ok {
			t.Errorf("package %s is not in the import table", p.path())
			continue
		}
		for _, imp := range p.Imports {
			checkImport(t, p.path(), imp, allowed, false)
		}
		tests := slices.Concat(allowed, forTests, []string{p.path() + "/..."})
		if under(p.path(), "cmd/...") || under(p.path(), "integration/...") {
			tests = []string{"..."}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			checkImport(t, p.path(), imp, tests, true)
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("package %s uses cgo: %v", p.path(), p.CgoFiles)
		}
	}
}

// checkImport reports an import that the tables do not allow.
func checkImport(t *testing.T, from, imp string, allowed []string, test bool) {
	t.Helper()
	if strings.HasPrefix(imp, module) {
		if !slices.ContainsFunc(allowed, func(pattern string) bool { return under(below(imp), pattern) }) {
			t.Errorf("%s (test: %v) imports %s; the import table forbids it", from, test, below(imp))
		}
		return
	}
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return // standard library
	}
	lib, who := ownerOf(imp)
	switch {
	case lib == "":
		t.Errorf("%s imports %s, a library without an owner", from, imp)
	case test && (under(from, "integration/...") || slices.Contains(testsOnly, lib)):
	case !slices.ContainsFunc(who, func(pattern string) bool { return under(from, pattern) }):
		t.Errorf("%s (test: %v) imports %s, which belongs to %v", from, test, imp, who)
	}
}

// layerOf returns the row of the import table for a package.
func layerOf(path string) ([]string, bool) {
	if allowed, ok := layers[path]; ok {
		return allowed, true
	}
	for _, parent := range []string{"cmd/internal", "cmd/meshmount", "integration/efss"} {
		if under(path, parent+"/...") {
			return layers[parent], true
		}
	}
	return nil, false
}

// ownerOf returns the library that an import belongs to and its owners.
func ownerOf(imp string) (string, []string) {
	for lib, who := range owners {
		if imp == lib || strings.HasPrefix(imp, lib+"/") {
			return lib, who
		}
	}
	return "", nil
}

// under tells whether path matches pattern, which may end in "...".
func under(path, pattern string) bool {
	prefix, tree := strings.CutSuffix(pattern, "...")
	if !tree {
		return path == pattern
	}
	return prefix == "" || path+"/" == prefix || strings.HasPrefix(path, prefix)
}

// listPackages runs "go list" on the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,CgoFiles", "./...")
	cmd.Dir = repoRoot(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
}

// repoRoot returns the directory that holds go.mod.
func repoRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestStaticBinary builds the program without cgo and looks for an interpreter.
func TestStaticBinary(t *testing.T) {
	t.Parallel()
	program := harness.StaticProgram(t)
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, prog := range file.Progs {
		if prog.Type == elf.PT_INTERP || prog.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a %v segment", prog.Type)
		}
	}
}

// TestTopLevel checks that nothing strays into the repository's root.
func TestTopLevel(t *testing.T) {
	allowed := []string{
		"cmd", "fs", "cache", "remote", "prefetch", "integration",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", ".ci", ".gitignore", ".git",
		"bin", "coverage.out", // built, ignored by git
	}
	required := []string{"cmd", "fs", "remote", "integration", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE", ".ci", ".gitignore"}
	entries, err := os.ReadDir(repoRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong into the repository's root", e.Name())
		}
	}
	for _, name := range required {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing in the repository's root", name)
		}
	}
}

// Bounds on the size of the code.
const (
	maxFunctionLines = 100
	maxFileLines     = 500
)

// TestSource checks rules that the compiler does not know: sizes, no exit outside
// cmd, no init functions, package documentation.
func TestSource(t *testing.T) {
	root := repoRoot(t)
	documented := map[string]bool{}
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		files++
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		checkFile(t, rel, src, documented)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package documentation", dir)
		}
	}
}

// checkFile checks one source file and notes whether it documents its package.
func checkFile(t *testing.T, rel string, src []byte, documented map[string]bool) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("%s: %v", rel, err)
		return
	}
	if !strings.HasSuffix(rel, "_test.go") {
		dir := filepath.Dir(rel)
		documented[dir] = documented[dir] || file.Doc.Text() != ""
	}
	if lines := bytes.Count(src, []byte("\n")); lines > maxFileLines {
		t.Errorf("%s: %d lines, more than %d", rel, lines, maxFileLines)
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
			if lines > maxFunctionLines {
				t.Errorf("%s: function %s has %d lines, more than %d", rel, f.Name.Name, lines, maxFunctionLines)
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: init function; pass what is needed instead", rel)
			}
		}
	}
	if !strings.HasPrefix(rel, "cmd"+string(filepath.Separator)) && !strings.HasSuffix(rel, "_test.go") {
		for _, call := range exits(file) {
			t.Errorf("%s: calls %s; only cmd may end the process", set.Position(call.Pos()), call.Sel.Name)
		}
	}
}

// exits returns the calls in file that end the process.
func exits(file *ast.File) []*ast.SelectorExpr {
	var found []*ast.SelectorExpr
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		switch pkg.Name + "." + strings.TrimRight(sel.Sel.Name, "fln") {
		case "os.Exit", "log.Fata", "syscall.Exit", "unix.Exit":
			found = append(found, sel)
		}
		return true
	})
	return found
}
