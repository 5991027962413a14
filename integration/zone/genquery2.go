package zone

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// genQuery2 is call 10221: "select [no distinct] COLUMNS [where CONDITIONS]
// [order by COLUMN [asc|desc], ...] [offset N] [limit N]". Conditions may be joined by
// "and", "or" and "not" with brackets. Functions on columns are not known. Tickets do
// not count here (measured on 5.0.2).
func (a *agent) genQuery2(in *wire.Genquery2Inp) (answer, error) {
	if in.Zone != a.z.opts.Name {
		return answer{}, code(wire.CodeInvalidZone)
	}
	p := &parser{tokens: tokenize(in.Query), names: columnNumbers()}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	ticket := a.ticket
	a.ticket = nil
	defer func() { a.ticket = ticket }()
	rows, err := p.run(a)
	if err != nil {
		return answer{}, err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rows); err != nil {
		return answer{}, err
	}
	return answer{out: &wire.STR{Text: strings.TrimSuffix(text.String(), "\n")}}, nil
}

// defaultLimit is the number of rows without a limit in the query.
const defaultLimit = 256

func columnNumbers() map[string]int {
	names := map[string]int{}
	for _, part := range columnTables() {
		for n, c := range part {
			names[c.name] = n
		}
	}
	return names
}

// tokenize splits a query into words, strings (which keep their first quote) and signs.
func tokenize(text string) []string {
	var tokens []string
	for i := 0; i < len(text); {
		j := i + 1
		switch {
		case text[i] == ' ' || text[i] == '\t' || text[i] == '\n':
			i++
			continue
		case text[i] == '\'':
			var value string
			value, j = stringToken(text, i)
			tokens = append(tokens, value)
			i = j
			continue
		case strings.IndexByte("<>!=", text[i]) >= 0:
			for j < len(text) && strings.IndexByte("<>=", text[j]) >= 0 {
				j++
			}
		case strings.IndexByte("(),", text[i]) < 0:
			for j < len(text) && strings.IndexByte(" \t\n(),<>!='", text[j]) < 0 {
				j++
			}
		}
		tokens = append(tokens, text[i:j])
		i = j
	}
	return tokens
}

// stringToken reads a string in which quotes are doubled, and returns where it ends.
func stringToken(text string, i int) (string, int) {
	value := []byte{'\''}
	for i++; i < len(text); i++ {
		if text[i] == '\'' {
			if i+1 >= len(text) || text[i+1] != '\'' {
				return string(value), i + 1
			}
			i++
		}
		value = append(value, text[i])
	}
	return string(value), i
}

// parser reads a query and builds what query.run needs.
type parser struct {
	tokens []string
	names  map[string]int
	q      *query
	limit  int
	offset int
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	t := p.peek()
	if len(p.tokens) > 0 {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept drops the given words if they come next, in any case.
func (p *parser) accept(words ...string) bool {
	if len(p.tokens) < len(words) {
		return false
	}
	for i, w := range words {
		if !strings.EqualFold(p.tokens[i], w) {
			return false
		}
	}
	p.tokens = p.tokens[len(words):]
	return true
}

// run parses and answers the query.
func (p *parser) run(a *agent) ([][]string, error) {
	if !p.accept("select") {
		return nil, badCondition
	}
	distinct := !p.accept("no", "distinct")
	p.accept("distinct")
	var selects []wire.Select
	for {
		n, ok := p.names[strings.ToUpper(p.next())]
		if !ok {
			return nil, badCondition
		}
		selects = append(selects, wire.Select{Column: n, Option: 1})
		if !p.accept(",") {
			break
		}
	}
	q, err := a.newQuery(selects, nil)
	if err != nil {
		return nil, err
	}
	q.distinct = distinct
	p.q, p.limit = q, defaultLimit
	if err := p.clauses(); err != nil {
		return nil, err
	}
	rows := [][]string{}
	rows = append(rows, q.run()...)
	rows = rows[min(p.offset, len(rows)):]
	return rows[:min(p.limit, len(rows))], nil
}

// clauses parses what follows the columns.
func (p *parser) clauses() error {
	if p.accept("where") {
		cond, err := p.or()
		if err != nil {
			return err
		}
		p.q.extra = cond
	}
	if p.accept("order", "by") {
		if err := p.order(); err != nil {
			return err
		}
	}
	for len(p.tokens) > 0 {
		word := strings.ToLower(p.next())
		n, err := strconv.Atoi(p.next())
		switch {
		case err != nil || n < 0:
			return badCondition
		case word == "limit":
			p.limit = n
		case word == "offset":
			p.offset = n
		default:
			return badCondition
		}
	}
	return nil
}

// order marks the columns to sort by, which must be among those selected.
func (p *parser) order() error {
	for {
		n, ok := p.names[strings.ToUpper(p.next())]
		option := wire.OrderBy
		if p.accept("desc") {
			option = wire.OrderByDesc
		} else {
			p.accept("asc")
		}
		for i := range p.q.selects {
			if ok && p.q.selects[i].Column == n {
				p.q.selects[i].Option |= option
			}
		}
		if !ok {
			return badCondition
		}
		if !p.accept(",") {
			return nil
		}
	}
}

func (p *parser) or() (func(*row) bool, error) {
	left, err := p.and()
	for err == nil && p.accept("or") {
		var right func(*row) bool
		right, err = p.and()
		old := left
		left = func(r *row) bool { return old(r) || right(r) }
	}
	return left, err
}

func (p *parser) and() (func(*row) bool, error) {
	left, err := p.term()
	for err == nil && p.accept("and") {
		var right func(*row) bool
		right, err = p.term()
		old := left
		left = func(r *row) bool { return old(r) && right(r) }
	}
	return left, err
}

// term parses one comparison or a bracket.
func (p *parser) term() (func(*row) bool, error) {
	if p.accept("not") {
		t, err := p.term()
		return func(r *row) bool { return !t(r) }, err
	}
	if p.accept("(") {
		t, err := p.or()
		if err == nil && !p.accept(")") {
			err = badCondition
		}
		return t, err
	}
	n, ok := p.names[strings.ToUpper(p.next())]
	if !ok {
		return nil, badCondition
	}
	c, _ := columnAt(n)
	p.q.needs |= c.need
	t, err := p.comparison(c)
	return func(r *row) bool { return t(c.value(r)) }, err
}

// comparison parses operator and values.
func (p *parser) comparison(c column) (test, error) {
	negative := p.accept("not")
	op := strings.ToLower(p.next())
	var values []string
	for {
		if op == "between" {
			p.accept("and")
		}
		if v := p.peek(); strings.HasPrefix(v, "'") {
			values = append(values, p.next()[1:])
		} else if v != "(" && v != "," && (v != ")" || op != "in") {
			break
		} else if p.next() == ")" {
			break
		}
		if op != "in" && op != "between" {
			break
		}
	}
	t, err := valuesTest(op, values, c.number)
	if negative && err == nil {
		return func(v string) bool { return !t(v) }, nil
	}
	return t, err
}

func valuesTest(op string, values []string, number bool) (test, error) {
	switch {
	case op == "in":
		return func(v string) bool {
			return slices.ContainsFunc(values, func(want string) bool { return compare(v, want, number) == 0 })
		}, nil
	case op == "between" && len(values) == 2:
		return func(v string) bool {
			return compare(v, values[0], number) >= 0 && compare(v, values[1], number) <= 0
		}, nil
	case len(values) == 1:
		return comparison(op, values[0], number)
	}
	return nil, badCondition
}
