package zone

import (
	"cmp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// test tells whether a value meets a condition.
type test func(value string) bool

// badCondition is the code for conditions that cannot be understood.
const badCondition = code(wire.CodeInvalidArgument)

// parseCond parses a condition of the first query language. A quoted value ends at the
// last quote before "||", "&&" or the end, so that quotes in a value stand as they are.
func parseCond(text string, number bool) (test, error) {
	if left, right, ok := splitCond(text, "||"); ok {
		return both(left, right, number, func(a, b bool) bool { return a || b })
	}
	if left, right, ok := splitCond(text, "&&"); ok {
		return both(left, right, number, func(a, b bool) bool { return a && b })
	}
	return simpleCond(strings.TrimSpace(text), number)
}

// splitCond splits at the first joint that follows a quote or bracket and is followed
// by an operator.
func splitCond(text, joint string) (left, right string, ok bool) {
	for at := 0; ; {
		i := strings.Index(text[at:], joint)
		if i < 0 {
			return "", "", false
		}
		at += i
		left, right = strings.TrimSpace(text[:at]), strings.TrimSpace(text[at+len(joint):])
		if _, _, known := operator(right); known && left != "" && strings.ContainsAny(left[len(left)-1:], "')") {
			return left, right, true
		}
		at += len(joint)
	}
}

func both(left, right string, number bool, join func(a, b bool) bool) (test, error) {
	a, err := parseCond(left, number)
	if err != nil {
		return nil, err
	}
	b, err := parseCond(right, number)
	return func(v string) bool { return join(a(v), b(v)) }, err
}

// operators, longer ones before those that they start with.
var operators = []string{
	"not like", "not in", "not between", "like", "in", "between", "begin_of", "parent_of",
	"<>", "!=", "<=", ">=", "n<=", "n>=", "n<", "n>", "n=", "==", "=", "<", ">",
}

// operator splits off the operator, in any case.
func operator(text string) (op, rest string, ok bool) {
	for _, op := range operators {
		if len(text) >= len(op) && strings.EqualFold(text[:len(op)], op) {
			return op, strings.TrimSpace(text[len(op):]), true
		}
	}
	return "", "", false
}

func simpleCond(text string, number bool) (test, error) {
	op, rest, ok := operator(text)
	if !ok {
		return nil, badCondition
	}
	negative := false
	if positive, is := strings.CutPrefix(op, "not "); is {
		op, negative = positive, true
	}
	t, err := positiveCond(op, rest, number)
	if err != nil || !negative {
		return t, err
	}
	return func(v string) bool { return !t(v) }, nil
}

func positiveCond(op, rest string, number bool) (test, error) {
	switch op {
	case "in":
		list, ok := quotedList(strings.TrimSuffix(strings.TrimPrefix(rest, "("), ")"))
		if !ok {
			return nil, badCondition
		}
		return inList(list), nil
	case "between":
		list, ok := quotedList(rest)
		if !ok || len(list) != 2 {
			return nil, badCondition
		}
		return func(v string) bool {
			return compare(v, list[0], number) >= 0 && compare(v, list[1], number) <= 0
		}, nil
	}
	value, ok := quoted(rest)
	if !ok {
		return nil, badCondition
	}
	if op[0] == 'n' {
		op, number = op[1:], true
	}
	return comparison(op, value, number)
}

func comparison(op, value string, number bool) (test, error) {
	switch op {
	case "=", "==":
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
	case "like":
		return func(v string) bool { return like(value, v) }, nil
	case "begin_of":
		return func(v string) bool { return strings.HasPrefix(value, v) }, nil
	case "parent_of":
		return func(v string) bool { return value == v || strings.HasPrefix(value, strings.TrimSuffix(v, "/")+"/") }, nil
	}
	return nil, badCondition
}

func inList(list []string) test {
	return func(v string) bool {
		for _, want := range list {
			if want == v {
				return true
			}
		}
		return false
	}
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

// quoted returns what stands between the first and the last quote.
func quoted(text string) (string, bool) {
	if len(text) < 2 || text[0] != '\'' || text[len(text)-1] != '\'' {
		return "", false
	}
	return text[1 : len(text)-1], true
}

// quotedList splits 'a','b' or 'a' 'b'.
func quotedList(text string) ([]string, bool) {
	text = strings.TrimSpace(text)
	inner, ok := quoted(text)
	if !ok {
		return nil, false
	}
	var list []string
	for {
		i := strings.IndexByte(inner, '\'')
		if i < 0 {
			return append(list, inner), true
		}
		j := strings.IndexByte(inner[i+1:], '\'')
		if j < 0 || strings.Trim(inner[i+1:i+1+j], " ,") != "" {
			return nil, false
		}
		list = append(list, inner[:i])
		inner = inner[i+j+2:]
	}
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
