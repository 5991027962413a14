package irods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// The most rows of one answer of the catalog: of a listing, and of what is about one
// entry. Servers honour more than the 256 of their own clients (measured: 2,000 asked for
// gave 1,000 in one answer). But by the server's source it reserves and clears, for one
// row and more, this number times the square of the number of columns times the longest
// value, at least 50 bytes: 10 MB for a page of objects with short names.
const (
	pageRows = 2500
	fewRows  = 50
)

// cursor is a question to the catalog, answered page by page. It belongs to one
// connection from its first page to its last.
type cursor struct {
	in    wire.GenQueryInp
	out   *wire.GenQueryOut
	row   int // the present one
	begun bool
	ended bool // no more pages
	exact []exactly
}

// exactly is a condition that the catalog was asked in a wider form.
type exactly struct {
	column int
	value  string
}

// ask returns a question to the catalog of a zone for these columns.
func ask(zone string, columns ...int) *cursor {
	c := &cursor{row: -1}
	c.in.MaxRows = fewRows
	c.in.Options = wire.NoDistinct
	c.in.Cond.Set(wire.KwZone, zone)
	c.in.Select(columns...)
	return c
}

// orderBy selects one more column, by which the rows are sorted.
func (c *cursor) orderBy(column int) *cursor {
	c.in.Selects = append(c.in.Selects, wire.Select{Column: column, Option: wire.OrderBy})
	return c
}

// fold selects columns of which a function of all rows is wanted.
func (c *cursor) fold(function int, columns ...int) {
	for _, column := range columns {
		c.in.Selects = append(c.in.Selects, wire.Select{Column: column, Option: function})
	}
}

// most bounds the rows of an answer.
func (c *cursor) most(rows int) *cursor {
	c.in.MaxRows = rows
	return c
}

// where adds a condition.
func (c *cursor) where(column int, cond string) *cursor {
	c.in.Where(column, cond)
	return c
}

// equal adds the condition that a column is value. A condition holds the value between
// single quotes as it is; newer servers take \x27 in it for a quote. So a value with
// either is asked for as a pattern that fits more, and compared here.
func (c *cursor) equal(column int, value string) *cursor {
	if !strings.Contains(value, "'") && !strings.Contains(value, `\x`) {
		return c.where(column, wire.Equal(value))
	}
	if !slices.ContainsFunc(c.in.Selects, func(s wire.Select) bool { return s.Column == column }) {
		c.in.Select(column)
	}
	c.exact = append(c.exact, exactly{column, value})
	return c.where(column, wire.Like(wider.Replace(value)))
}

// wider turns a value into a pattern that fits it and more.
var wider = strings.NewReplacer("'", "_", `\`, "_", "%", "_")

// page returns the call for the next page.
func (c *cursor) page() *wire.Call {
	c.out = &wire.GenQueryOut{}
	return &wire.Call{API: wire.APIGenQuery, In: &c.in, Out: c.out}
}

// took takes the answer to page.
func (c *cursor) took(err error) error {
	c.begun, c.row = true, -1
	if code(err) == wire.CodeNoRows {
		*c.out = wire.GenQueryOut{}
		err = nil
	}
	if err != nil {
		c.ended = true
		return err
	}
	c.in.Continue = c.out.Continue
	c.ended = c.out.Continue == 0
	if c.out.Rows == 0 {
		return nil
	}
	for _, s := range c.in.Selects {
		if !c.holds(s.Column) {
			return &wire.BrokenError{API: wire.APIGenQuery, Err: fmt.Errorf("%w: column %d is missing", wire.ErrPacking, s.Column)}
		}
	}
	return nil
}

// holds tells whether the page has a value of the column in each row.
func (c *cursor) holds(column int) bool {
	for i := range c.out.Results {
		if r := &c.out.Results[i]; r.Column == column {
			return len(r.Values) == c.out.Rows
		}
	}
	return false
}

// step moves to the next row of the page and tells whether there is one.
func (c *cursor) step() bool {
	for c.begun {
		c.row++
		if c.row >= c.out.Rows {
			c.row = c.out.Rows
			return false
		}
		if c.fits() {
			return true
		}
	}
	return false
}

func (c *cursor) fits() bool {
	for _, e := range c.exact {
		if c.text(e.column) != e.value {
			return false
		}
	}
	return true
}

// next moves to the next row, fetching pages as needed, and tells whether there is one.
func (c *cursor) next(ctx context.Context, s *session) (bool, error) {
	for {
		if c.step() {
			return true, nil
		}
		if c.begun && c.ended {
			return false, nil
		}
		_, err := s.conn.Call(ctx, c.page())
		if err := c.took(err); err != nil {
			return false, err
		}
	}
}

// text returns a column of the present row. It shares memory with the whole page.
func (c *cursor) text(column int) string { return c.out.Value(column, c.row) }

// number returns a column of the present row as a number. An empty one is 0.
func (c *cursor) number(column int) (int64, error) {
	return parseNumber(column, c.text(column))
}

func parseNumber(column int, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		err = &wire.BrokenError{API: wire.APIGenQuery, Err: fmt.Errorf("%w: column %d: %.40q is no number", wire.ErrPacking, column, text)}
	}
	return n, err
}

// end tells the server that the rest of the rows is not wanted.
func (c *cursor) end(ctx context.Context, s *session) {
	if !c.begun || c.ended || s.conn.Broken() {
		return
	}
	c.ended = true
	c.in.MaxRows = 0
	if _, err := s.conn.Call(ctx, c.page()); err != nil && code(err) == 0 {
		_ = s.conn.Close() // it is broken; the pool drops it
	}
}

// begin asks all questions at once: one round trip for the first pages of all.
func begin(ctx context.Context, s *session, cursors ...*cursor) error {
	calls := make([]*wire.Call, len(cursors))
	for i, c := range cursors {
		calls[i] = c.page()
	}
	results, err := s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	var faults []error
	for i, c := range cursors {
		faults = append(faults, c.took(results[i].Err))
	}
	return errors.Join(faults...)
}
