package zone

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// test tells whether a value meets a condition.
type test func(value string) bool

// Codes for conditions: the query builder does not understand it, or the database.
const (
	badCondition = code(wire.CodeInvalidArgument)
	badSQL       = code(wire.CodeCatalogSQL)
)

// parseCond parses a condition of the first query language: simple ones joined by "||"
// and "&&", of which the latter binds closer, as in the SQL that is made of it. Joints
// between quotes are text; but a lone quote in a value turns that around, as with the
// real server.
func parseCond(text string, number bool) (test, error) {
	if trimmed := strings.TrimLeft(text, " "); len(trimmed) > 1 && trimmed[0] == 'n' && strings.IndexByte("<>=", trimmed[1]) >= 0 {
		text, number = trimmed[1:], true
	}
	var any []test
	for _, alternative := range splitCond(text, "||") {
		var all []test
		for _, part := range splitCond(alternative, "&&") {
			t, err := simpleCond(part, number)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
		any = append(any, func(v string) bool {
			return !slices.ContainsFunc(all, func(t test) bool { return !t(v) })
		})
	}
	return func(v string) bool {
		return slices.ContainsFunc(any, func(t test) bool { return t(v) })
	}, nil
}

// splitCond splits at the joints that are not between quotes.
func splitCond(text, joint string) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\'':
			quoted = !quoted
		case !quoted && strings.HasPrefix(text[i:], joint):
			parts = append(parts, text[start:i])
			start = i + len(joint)
			i = start - 1
		}
	}
	return append(parts, text[start:])
}

// simpleCond parses an operator and a value, which stands between the first and the last
// quote: quotes in it stand as they are, what is behind it does not count.
func simpleCond(text string, number bool) (test, error) {
	trimmed := strings.TrimLeft(text, " ")
	switch {
	case strings.HasPrefix(trimmed, "in"), strings.HasPrefix(trimmed, "IN"):
		list := quotedList(text)
		if len(list) == 0 {
			return nil, badCondition
		}
		return func(v string) bool {
			return slices.ContainsFunc(list, func(want string) bool { return compare(v, want, number) == 0 })
		}, nil
	case strings.HasPrefix(trimmed, "between"), strings.HasPrefix(trimmed, "BETWEEN"):
		list := quotedList(text)
		if len(list) != 2 {
			return nil, badCondition
		}
		return func(v string) bool {
			return compare(v, list[0], number) >= 0 && compare(v, list[1], number) <= 0
		}, nil
	case text == "IS NULL": // the catalog holds empty text in place of nothing
		return func(string) bool { return false }, nil
	case text == "IS NOT NULL":
		return func(string) bool { return true }, nil
	}
	first, last := strings.IndexByte(text, '\''), strings.LastIndexByte(text, '\'')
	if first < 0 || first == last || first > 10 || !plainOperator(text[:first]) {
		return nil, badCondition
	}
	return comparison(strings.TrimSpace(text[:first]), text[first+1:last], number)
}

// plainOperator tells whether a text consists of what the server lets pass as operator.
func plainOperator(text string) bool {
	text = strings.NewReplacer("<", " ", ">", " ", "=", " ", "!", " ").Replace(text)
	for _, word := range []string{"begin_of", "parent_of", "not", "NOT", "between", "BETWEEN", "like", "LIKE", "in", "IN"} {
		text = strings.Replace(text, word, "", 1)
	}
	return strings.TrimSpace(text) == ""
}

// comparison returns the test of an operator. One that passes the server's check but is
// no SQL is an error of the database.
func comparison(op, value string, number bool) (test, error) {
	if _, err := strconv.ParseInt(value, 10, 64); number && err != nil {
		return nil, badSQL
	}
	switch strings.Join(strings.Fields(op), " ") {
	case "=":
		return func(v string) bool { return compare(v, value, number) == 0 }, nil
	case "!=", "<>":
		return func(v string) bool { return compare(v, value, number) != 0 }, nil
	case "<":
		return func(v string) bool { return compare(v, value, number) < 0 }, nil
	case ">":
		return func(v string) bool { return compare(v, value, number) > 0 }, nil
	case "<=":
		return func(v string) bool { return compare(v, value, number) <= 0 }, nil
	case ">=":
		return func(v string) bool { return compare(v, value, number) >= 0 }, nil
	case "like", "LIKE":
		return likeTest(value, number, true)
	case "not like", "NOT LIKE", "not LIKE", "NOT like":
		return likeTest(value, number, false)
	case "begin_of":
		return func(v string) bool { return v != "" && strings.HasPrefix(value, v) }, nil
	case "parent_of":
		return func(v string) bool { return value == v || strings.HasPrefix(value, strings.TrimSuffix(v, "/")+"/") }, nil
	}
	return nil, badSQL
}

// likeTest refuses what the database refuses: numbers, and a pattern that ends with a
// backslash which does not stand for itself.
func likeTest(pattern string, number, want bool) (test, error) {
	slashes := len(pattern) - len(strings.TrimRight(pattern, "\\"))
	if number || slashes%2 != 0 {
		return nil, badSQL
	}
	return func(v string) bool { return like(pattern, v) == want }, nil
}

// quotedList returns what stands between each pair of quotes.
func quotedList(text string) []string {
	var list []string
	parts := strings.Split(text, "'")
	for i := 1; i+1 < len(parts); i += 2 {
		list = append(list, parts[i])
	}
	return list
}

// equalValue returns the value of a condition that is "= 'x'" and nothing else.
func equalValue(text string) (string, bool) {
	first, last := strings.IndexByte(text, '\''), strings.LastIndexByte(text, '\'')
	joined := len(splitCond(text, "||")) + len(splitCond(text, "&&"))
	if joined != 2 || first < 0 || first == last || strings.TrimSpace(text[:first]) != "=" {
		return "", false
	}
	return text[first+1 : last], true
}

// compare compares two values, as numbers if both are.
func compare(a, b string, number bool) int {
	if number {
		x, errX := strconv.ParseInt(a, 10, 64)
		y, errY := strconv.ParseInt(b, 10, 64)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
	}
	return strings.Compare(a, b)
}

// like matches an SQL pattern: % any text, _ one character, backslash the next one
// literally.
func like(pattern, v string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '%':
			pattern = strings.TrimLeft(pattern, "%")
			for i := 0; i <= len(v); i++ {
				if like(pattern, v[i:]) {
					return true
				}
			}
			return false
		case '_':
			if v == "" {
				return false
			}
			_, n := utf8.DecodeRuneInString(v)
			pattern, v = pattern[1:], v[n:]
			continue
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
		}
		if v == "" || v[0] != pattern[0] {
			return false
		}
		pattern, v = pattern[1:], v[1:]
	}
	return v == ""
}
