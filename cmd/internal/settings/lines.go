package settings

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyLines returns the line of every key and table of the document.
func keyLines(src []byte) (map[string]int, error) {
	w := lineWalker{lines: map[string]int{}, src: src, line: 1}
	w.parser.Reset(src)
	var table []string
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = w.key(e, nil)
		case unstable.KeyValue:
			w.keyValue(e, table)
		}
	}
	return w.lines, w.parser.Error()
}

type lineWalker struct {
	parser    unstable.Parser
	lines     map[string]int
	src       []byte
	off, line int // line at off; offsets are asked for in ascending order
}

// key notes the line of each prefix of the node's key below table and returns its path.
func (w *lineWalker) key(e *unstable.Node, table []string) []string {
	path := slices.Clone(table)
	for it := e.Key(); it.Next(); {
		n := it.Node()
		off := int(n.Raw.Offset)
		w.line += bytes.Count(w.src[min(w.off, off):off], []byte{'\n'})
		w.off = max(w.off, off)
		path = append(path, string(n.Data))
		if id := joined(path...); w.lines[id] == 0 {
			w.lines[id] = w.line
		}
	}
	return path
}

func (w *lineWalker) keyValue(e *unstable.Node, table []string) {
	path := w.key(e, table)
	value := e.Value()
	if value.Kind != unstable.InlineTable {
		return
	}
	for it := value.Children(); it.Next(); {
		w.keyValue(it.Node(), path)
	}
}

// quoteKey writes a key as TOML wants it.
func quoteKey(key string) string {
	bare := func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if key != "" && !strings.ContainsFunc(key, func(r rune) bool { return !bare(r) }) {
		return key
	}
	return quoteText(key)
}

// quoteText writes a TOML basic string.
func quoteText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
