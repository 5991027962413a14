package remotetest

import (
	"fmt"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

var nameChecks = []check{
	{"Names", checkNames},
	{"NamePairs", checkNamePairs},
	{"LongNames", checkLongNames},
}

// oddNames are names that something on the way to a server and back likes to change.
func oddNames() []string {
	return []string{
		" ", "  two  spaces  ", " leading", "trailing ", "trailing.", "...", ".hidden", "..hidden", "~", "~user",
		"-", "--flag", "a b", "a+b", "a%20b", "%41", "%", "%%", "%2F", "%2e%2e", "%zz", "100%", "%00",
		"a&b", "a&amp;b", "<tag>", "]]>", "<!--", `"double"`, "'single'", "`back`", "#hash", "a#b", "?query", "a?b=c",
		"a;b", "a=b", "a,b", "a:b", "c:", "http:", `back\slash`, `\\unc\x`, "$HOME", "${x}", "{brace}", "[bracket]",
		"(paren)", "a|b", "a*b", "*", "!bang", "a^b", "@at", "a@2x", "ü", "ümläut ß", "日本語", "עברית", "🙂", "👩‍👩‍👧",
		"cafe\u0301", "\u212b", "ﬁ", "a\u200bb", "\u202egpj.exe", "\ufeffbom", "non\u00a0breaking",
		"new\nline", "carriage\rreturn", "tab\there", "bell\a", "\x7f", "\xff\xfe", "latin\xe9",
		"2024-01-02", "20240102T030405Z", "Mon, 02 Jan 2006 15:04:05 GMT", "0", "007", "1e3", "null", "true",
		"CON", "nul.txt", "desktop.ini", ".DS_Store", "Thumbs.db", ".htaccess", "index.html", "remote.php", "webdav",
		"file.part", ".lock", ".davfs.tmp", "x.ocTransferId123.part", strings.Repeat("n", 200), strings.Repeat("ü", 100),
	}
}

// checkNames stores, lists, reads, renames and removes under each odd name: the
// name comes out byte for byte, or it is refused and nothing is left.
func checkNames(e *env) {
	e.mkdir("/d")
	taken := []string{"base"}
	e.put("/d/base", []byte("base"))
	for _, name := range oddNames() {
		if e.tryName(name) {
			taken = append(taken, name)
		}
	}
	e.wantNames("/d", taken...)
	for _, name := range taken {
		if name != "base" {
			e.removeName(name)
		}
	}
	e.wantNames("/d", "base")
	e.wantContent("/d/base", []byte("base"))
}

// tryName makes a file of that name in /d and tells whether it was accepted.
func (e *env) tryName(name string) bool {
	e.Helper()
	path := "/d/" + name
	made, err := e.b.Put(e.ctx, path, Bytes([]byte(name)), remote.PutOptions{})
	if err != nil {
		e.wantRefused(name, "put", err)
		_, err := e.b.Mkdir(e.ctx, path)
		e.wantRefused(name, "mkdir", err)
		e.wantRefused(name, "rename", e.b.Rename(e.ctx, "/d/base", path, remote.RenameOptions{}))
		return false
	}
	if made.Path != path {
		e.Errorf("put %q returned the path %q", path, made.Path)
	}
	e.wantContent(path, []byte(name))
	return true
}

// wantRefused checks an error for a name: refusing must be allowed and loud.
func (e *env) wantRefused(name, op string, err error) {
	e.Helper()
	what := fmt.Sprintf("%s of the name %q", op, name)
	e.wantKind(err, what, remote.Invalid, remote.NameTooLong)
	if !e.MayRefuse(name) && (e.caps.MaxName == 0 || len(name) <= e.caps.MaxName) {
		e.Errorf("%s was refused: %v", what, err)
	}
}

// removeName takes an accepted name through the other operations and away.
func (e *env) removeName(name string) {
	e.Helper()
	path := "/d/" + name
	e.rename(path, "/d/moved")
	e.wantNothing(path)
	e.rename("/d/moved", path)
	if got := e.read(path); string(got) != name {
		e.Errorf("%q holds %q after two renames", path, got)
	}
	e.remove(path, remote.File)
	e.wantNothing(path)
	e.mkdir(path)
	e.put(path+"/"+name, []byte("inner"))
	e.wantNames(path, name)
	e.remove(path+"/"+name, remote.File)
	e.remove(path, remote.Dir)
}

// checkNamePairs stores two names that a careless backend takes for one.
func checkNamePairs(e *env) {
	for i, pair := range [][2]string{
		{"%41", "A"}, {"a+b", "a b"}, {"a%20b", "a b"}, {"a%2Fb", "a%2fb"}, {"caf\u00e9", "cafe\u0301"}, {"x", "x "}, {"x", "x."},
		{"x", " x"}, {"x", "x\u200b"}, {"\u212b", "\u00c5"}, {"name", "NAME"}, {"a&b", "a&amp;b"}, {`a\b`, "a%5Cb"},
		{"ß", "ss"}, {"ﬁ", "fi"}, {"a?b", "a%3Fb"}, {"a#b", "a%23b"}, {"a;b", "a%3Bb"}, {"x~", "x%7E"},
	} {
		dir := fmt.Sprintf("/d%d", i)
		e.mkdir(dir)
		var taken []string
		for _, name := range pair {
			_, err := e.b.Put(e.ctx, remote.Join(dir, name), Bytes([]byte(name)), remote.PutOptions{})
			if err != nil {
				e.wantRefused(name, "put", err)
				continue
			}
			taken = append(taken, name)
		}
		e.wantNames(dir, taken...)
		for _, name := range taken {
			if got := e.read(remote.Join(dir, name)); string(got) != name {
				e.Errorf("%q holds the content of %q", name, got)
			}
		}
	}
}

// checkLongNames tries names around the usual limit and deep paths.
func checkLongNames(e *env) {
	for _, n := range []int{250, 255, 256, 1000, 5000} {
		name := strings.Repeat("x", n)
		_, err := e.b.Put(e.ctx, "/"+name, Bytes([]byte("x")), remote.PutOptions{})
		if err == nil {
			e.wantContent("/"+name, []byte("x"))
			e.remove("/"+name, remote.File)
			continue
		}
		e.wantKind(err, fmt.Sprintf("a name of %d bytes", n), remote.NameTooLong, remote.Invalid)
		if n <= e.caps.MaxName {
			e.Errorf("a name of %d bytes was refused, the limit is %d", n, e.caps.MaxName)
		}
	}
	e.wantNames("/")
	path := ""
	for range 30 {
		path += "/directory"
		e.mkdir(path)
	}
	e.put(path+"/f", []byte("deep"))
	e.wantContent(path+"/f", []byte("deep"))
}
