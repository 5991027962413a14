package zone

import (
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// cursor is an answer that was given in part.
type cursor struct {
	rows  [][]string
	total int
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // 0 is the id of nothing
	return n
}

// aggregate replaces rows by one for each group if a function was selected, nil
// otherwise.
func (q *query) aggregate(rows [][]string) [][]string {
	found := false
	for _, s := range q.selects {
		found = found || function(s) >= wire.SelectMin
	}
	if !found {
		return nil
	}
	groups := map[string][][]string{}
	var keys []string
	for _, r := range rows {
		key := q.groupKey(r)
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], r)
	}
	result := [][]string{}
	for _, key := range keys {
		result = append(result, q.fold(groups[key]))
	}
	if len(rows) == 0 && q.onlyFunctions() {
		result = append(result, q.fold(nil))
	}
	return result
}

func function(s wire.Select) int { return s.Option & 0xf }

func (q *query) onlyFunctions() bool {
	for _, s := range q.selects {
		if function(s) < wire.SelectMin {
			return false
		}
	}
	return true
}

// groupKey joins the values of the columns without a function.
func (q *query) groupKey(r []string) string {
	var key strings.Builder
	for i, s := range q.selects {
		if function(s) < wire.SelectMin {
			key.WriteString(strconv.Quote(r[i]))
		}
	}
	return key.String()
}

// fold makes one row of a group.
func (q *query) fold(group [][]string) []string {
	result := make([]string, len(q.selects))
	for i, s := range q.selects {
		values := make([]string, len(group))
		for j, r := range group {
			values[j] = r[i]
		}
		result[i] = apply(function(s), values, q.columns[i].number)
	}
	return result
}

// apply computes a function of values.
func apply(f int, values []string, isNumber bool) string {
	if f == wire.SelectCount {
		return strconv.Itoa(len(values))
	}
	if len(values) == 0 {
		return ""
	}
	best, sum := values[0], int64(0)
	for _, v := range values {
		n := compare(v, best, isNumber)
		if (f == wire.SelectMin && n < 0) || (f == wire.SelectMax && n > 0) {
			best = v
		}
		sum += number(v)
	}
	switch f {
	case wire.SelectSum:
		return id(sum)
	case wire.SelectAvg:
		return id(sum / int64(len(values)))
	}
	return best
}

// genQuery is call 702.
func (a *agent) genQuery(in *wire.GenQueryInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if in.Continue != 0 {
		return a.nextPage(in)
	}
	if zone, ok := in.Cond.Get(wire.KwZone); ok && zone != "" && zoneOf(zone) != a.z.opts.Name {
		return answer{}, code(wire.CodeInvalidZone)
	}
	q, err := a.newQuery(in.Selects, in.Wheres)
	if err != nil {
		return answer{}, err
	}
	q.distinct = in.Options&wire.NoDistinct == 0
	q.upper = in.Options&wire.UpperCaseWhere != 0
	c := &cursor{rows: q.run()}
	if in.Options&wire.ReturnTotal != 0 {
		c.total = len(c.rows)
	}
	c.rows = c.rows[min(max(in.PartialStart, 0), len(c.rows)):]
	return a.page(in, c, 0)
}

// nextPage goes on with an answer, or ends it if no rows are wanted.
func (a *agent) nextPage(in *wire.GenQueryInp) (answer, error) {
	c := a.cursors[in.Continue]
	if c == nil {
		return answer{}, code(wire.CodeInvalidArgument)
	}
	if in.MaxRows <= 0 {
		delete(a.cursors, in.Continue)
		return answer{out: &wire.GenQueryOut{}}, nil
	}
	return a.page(in, c, in.Continue)
}

// page answers with the next rows. As with the real server a full page is followed by
// another one, which may be empty.
func (a *agent) page(in *wire.GenQueryInp, c *cursor, at int) (answer, error) {
	n := min(max(in.MaxRows, 0), len(c.rows))
	if n == 0 {
		delete(a.cursors, at)
		return answer{status: wire.CodeNoRows, out: &wire.GenQueryOut{}}, nil
	}
	out := &wire.GenQueryOut{Rows: n, Attrs: len(in.Selects), Total: c.total}
	for i, s := range in.Selects {
		result := wire.SQLResult{Column: s.Column, Values: make([]string, n)}
		for j := range n {
			result.Values[j] = c.rows[j][i]
		}
		out.Results = append(out.Results, result)
	}
	c.rows = c.rows[n:]
	if n < in.MaxRows || in.Options&wire.AutoClose != 0 {
		delete(a.cursors, at)
		if n == in.MaxRows {
			out.Continue = -1 // there may be more, but not for this question
		}
		return answer{out: out}, nil
	}
	for at == 0 || (a.cursors[at] != nil && a.cursors[at] != c) {
		at++
	}
	a.cursors[at] = c
	out.Continue = at
	return answer{out: out}, nil
}
