package settings

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/pelletier/go-toml/v2"
)

// maxFile is the greatest size of a configuration file in bytes.
const maxFile = 1 << 20

// file is a configuration file that has been read and whose keys are all known.
type file struct {
	path     string
	top      []entry
	branches []fileBranch // in the order of the file
}

type fileBranch struct {
	name    string
	line    int
	url     entry
	entries []entry
}

// entry is one key of the file with its value as text.
type entry struct {
	option *Option // nil for url
	text   string
	line   int
}

// urlKey is the only key of a branch that is no option.
const urlKey = "url"

// readFile reads the configuration file. A file that holds secrets must be private.
func readFile(path string) (*file, error) {
	src, st, err := slurp(path)
	if err != nil {
		why := err
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			why = pe.Err
		}
		return nil, exit.New(exit.Config, "name a readable TOML file", "configuration file %s: %w", path, why)
	}
	f, err := parseFile(path, src)
	if err != nil {
		return nil, err
	}
	if e, ok := f.find(FromConfig); ok {
		if why := Private(st); why != nil {
			return nil, exit.New(exit.SecretUnusable, RemedyPrivate(path, st)+", or use "+e.option.Name+"-file",
				"configuration file %s holds a %s (line %d) and %w", path, e.option.Name, e.line, why)
		}
	}
	if e, ok := f.find(FromCommand); ok && st.Mode().Perm()&0o022 != 0 {
		return nil, exit.New(exit.Config, "run: chmod go-w "+path,
			"configuration file %s holds a command (line %d) and can be changed by others", path, e.line)
	}
	return f, nil
}

func slurp(path string) ([]byte, os.FileInfo, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = in.Close() }()
	st, err := in.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	src, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err == nil && len(src) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return src, st, err
}

// Private returns why the file with these facts is not fit for a secret: somebody
// else owns it, or group or others can read or write it. Root's files are accepted.
func Private(st os.FileInfo) error {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() && sys.Uid != 0 {
		return fmt.Errorf("belongs to another user (uid %d)", sys.Uid)
	}
	if bits := st.Mode().Perm() & 0o077; bits != 0 {
		return fmt.Errorf("can be read or written by others (mode %04o)", st.Mode().Perm())
	}
	return nil
}

// RemedyPrivate says what to do about a file that is not Private.
func RemedyPrivate(path string, st os.FileInfo) string {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() && sys.Uid != 0 {
		return "use a file of your own"
	}
	return "run: chmod 600 " + path
}

// parseFile checks syntax, keys and types of src and returns its entries.
func parseFile(path string, src []byte) (*file, error) {
	var doc map[string]any
	if err := toml.Unmarshal(src, &doc); err != nil {
		return nil, syntaxError(path, err)
	}
	lines, err := keyLines(src)
	if err != nil {
		return nil, exit.New(exit.Config, "", "configuration file %s: %v", path, err)
	}
	r := reader{path: path, lines: lines}
	f := &file{path: path}
	for _, key := range r.sorted(doc) {
		if key == "branch" {
			if f.branches, err = r.branches(doc[key]); err != nil {
				return nil, err
			}
			continue
		}
		e, err := r.entry(doc[key], false, key)
		if err != nil {
			return nil, err
		}
		f.top = append(f.top, e)
	}
	return f, nil
}

func syntaxError(path string, err error) error {
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, _ := de.Position()
		return exit.New(exit.Config, "correct this line",
			"configuration file %s:%d: %s", path, row, strings.TrimPrefix(de.Error(), "toml: "))
	}
	return exit.New(exit.Config, "", "configuration file %s: %s", path, strings.TrimPrefix(err.Error(), "toml: "))
}

// find returns the first credential of a kind of place.
func (f *file) find(from CredentialFrom) (entry, bool) {
	all := slices.Clone(f.top)
	for _, b := range f.branches {
		all = append(all, b.entries...)
	}
	i := slices.IndexFunc(all, func(e entry) bool {
		return e.option.credential != nil && e.option.credential.From == from
	})
	if i < 0 {
		return entry{}, false
	}
	return all[i], true
}

// reader turns the decoded document into entries.
type reader struct {
	path  string
	lines map[string]int // joined key path -> line
}

func joined(keys ...string) string { return strings.Join(keys, "\x00") }

func (r *reader) line(keys ...string) int { return r.lines[joined(keys...)] }

// sorted returns the keys of a table in the order of the file.
func (r *reader) sorted(table map[string]any, above ...string) []string {
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(r.line(append(above, a)...), r.line(append(above, b)...)), cmp.Compare(a, b))
	})
	return keys
}

func (r *reader) fault(line int, remedy, format string, args ...any) error {
	return exit.New(exit.Config, remedy, "configuration file %s:%d: %w", r.path, line, fmt.Errorf(format, args...))
}

func (r *reader) branches(value any) ([]fileBranch, error) {
	table, ok := value.(map[string]any)
	if !ok {
		return nil, r.fault(r.line("branch"), "write [branch.NAME]", "branch is not a table")
	}
	var list []fileBranch
	for _, name := range r.sorted(table, "branch") {
		b, err := r.branch(name, table[name])
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

func (r *reader) branch(name string, value any) (fileBranch, error) {
	b := fileBranch{name: name, line: r.line("branch", name)}
	table, ok := value.(map[string]any)
	if !ok {
		return b, r.fault(b.line, "write [branch."+quoteKey(name)+"] and options of branches below it",
			"branch.%s is not a table", name)
	}
	if err := checkName(name); err != nil {
		return b, r.fault(b.line, "use names such as sciebo or \"lexis/project1\"", "branch %q: %w", name, err)
	}
	for _, key := range r.sorted(table, "branch", name) {
		line := r.line("branch", name, key)
		if text, isText := table[key].(string); key == urlKey && isText {
			b.url = entry{text: text, line: line}
			continue
		}
		e, err := r.entry(table[key], true, "branch", name, key)
		if err != nil {
			return b, err
		}
		b.entries = append(b.entries, e)
	}
	if b.url.text == "" {
		return b, r.fault(b.line, `add url = "davs://HOST/PATH"`, "branch %q has no url", name)
	}
	return b, nil
}

// entry checks one key and the type of its value.
func (r *reader) entry(value any, inBranch bool, keys ...string) (entry, error) {
	key, line := keys[len(keys)-1], r.line(keys...)
	if key == urlKey && inBranch {
		return entry{}, r.fault(line, `write url = "davs://HOST/PATH"`, "url is not a text")
	}
	if _, isTable := value.(map[string]any); isTable && inBranch {
		return entry{}, r.fault(line, `write [branch."a/b"] for a branch below another`, "unknown table %q in a branch", key)
	}
	o, ok := Lookup(key)
	if !ok || o.Name != key || o.Closed&NotInFile != 0 {
		return entry{}, r.fault(line, didYouMean(key), "unknown key %q", key)
	}
	if inBranch && o.Scope == Whole {
		return entry{}, r.fault(line, "move it above all [branch...] tables", "%s is not an option of a single branch", key)
	}
	text, err := o.fromTOML(value)
	if err != nil {
		return entry{}, r.fault(line, "", "%s: %w", key, err)
	}
	return entry{option: o, text: text, line: line}, nil
}

// fromTOML returns the text of a value whose TOML type fits the option.
func (o *Option) fromTOML(value any) (string, error) {
	kind := o.Type()
	switch v := value.(type) {
	case string:
		if kind != "switch" && kind != "number" {
			return v, nil
		}
	case bool:
		if kind == "switch" {
			return strconv.FormatBool(v), nil
		}
	case int64:
		if kind == "number" || kind == "duration" || kind == "size" {
			return strconv.FormatInt(v, 10), nil
		}
	}
	switch kind {
	case "switch":
		return "", errors.New("write true or false, without quotes")
	case "number":
		return "", errors.New("write a whole number, without quotes")
	case "duration":
		return "", errors.New(`write a duration such as "90s", or a number of seconds`)
	case "size":
		return "", errors.New(`write a size such as "64MiB", or a number of bytes`)
	}
	return "", errors.New("write the value in quotes")
}

// didYouMean finds the known key that is nearest to a misspelt one.
func didYouMean(key string) string {
	best, least := "", 3
	for _, o := range Options() {
		if d := distance(strings.ReplaceAll(key, "_", "-"), o.Name); d < least && o.Closed&NotInFile == 0 {
			best, least = o.Name, d
		}
	}
	if best == "" {
		return "see meshmount help mount for all options"
	}
	return "did you mean " + best + "?"
}

// distance is the number of edits that turn a into b, as far as it matters: texts of
// very different length are simply far apart.
func distance(a, b string) int {
	if len(a) > len(b)+3 || len(b) > len(a)+3 {
		return 4
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// dirOf returns the directory relative names in the file start from.
func (f *file) dirOf() string { return filepath.Dir(f.path) }
