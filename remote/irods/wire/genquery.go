package wire

// maxAttrs is the number of SqlResult_PI elements in every GenQueryOut_PI.
const maxAttrs = 50

// minResLen is the least width that the server announces for a column.
const minResLen = 50

// Select is a column to return. Option is 0 or 1 for the plain value, or one of
// SelectMin, SelectMax, SelectSum, SelectAvg and SelectCount, with OrderBy or
// OrderByDesc added.
type Select struct{ Column, Option int }

// Where is a condition on a column: "= 'x'", "like 'x%'", "in ('a','b')",
// "> '5'", "between 'a' 'b'", joined by "&&" and "||".
type Where struct {
	Column int
	Cond   string
}

// GenQueryInp is a query of the catalog (GenQueryInp_PI).
type GenQueryInp struct {
	// MaxRows is the most rows of one answer; 0 ends the query Continue. The server
	// honours more than 256 (measured: 2000 gave 1000 rows in one answer).
	MaxRows      int
	Continue     int // GenQueryOut.Continue of the answer before, 0 to start
	PartialStart int // rows to leave out
	Options      int // NoDistinct, ReturnTotal, UpperCaseWhere
	Cond         KeyValPair
	Selects      []Select
	Wheres       []Where
}

func (*GenQueryInp) pi() string { return "GenQueryInp_PI" }

func (m *GenQueryInp) fields(c *codec) {
	c.int("maxRows", &m.MaxRows)
	c.int("continueInx", &m.Continue)
	c.int("partialStartIndex", &m.PartialStart)
	c.int("options", &m.Options)
	c.sub(&m.Cond)
	c.sub((*selects)(&m.Selects))
	c.sub((*wheres)(&m.Wheres))
}

// Select adds columns to return.
func (m *GenQueryInp) Select(columns ...int) *GenQueryInp {
	for _, col := range columns {
		m.Selects = append(m.Selects, Select{col, 1})
	}
	return m
}

// Where adds a condition, see Equal and Like.
func (m *GenQueryInp) Where(column int, cond string) *GenQueryInp {
	m.Wheres = append(m.Wheres, Where{column, cond})
	return m
}

// Equal returns the condition that a column is value. The value stands between single
// quotes as it is: one with quotes in it is found (measured on 5.0.2), doubling them
// finds nothing.
func Equal(value string) string { return "= '" + value + "'" }

// Like returns the condition that a column matches an SQL pattern of % and _, with
// backslash before those meant literally.
func Like(pattern string) string { return "like '" + pattern + "'" }

// selects is InxIvalPair_PI.
type selects []Select

func (*selects) pi() string { return "InxIvalPair_PI" }

func (m *selects) fields(c *codec) {
	n := len(*m)
	c.int("iiLen", &n)
	if c.decode {
		*m = makeList[Select](c, n)
	}
	for i := range *m {
		c.int("inx", &(*m)[i].Column)
	}
	for i := range *m {
		c.int("ivalue", &(*m)[i].Option)
	}
}

// wheres is InxValPair_PI.
type wheres []Where

func (*wheres) pi() string { return "InxValPair_PI" }

func (m *wheres) fields(c *codec) {
	n := len(*m)
	c.int("isLen", &n)
	if c.decode {
		*m = makeList[Where](c, n)
	}
	for i := range *m {
		c.int("inx", &(*m)[i].Column)
	}
	for i := range *m {
		c.str("svalue", &(*m)[i].Cond)
	}
}

// SQLResult is one column of an answer (SqlResult_PI).
type SQLResult struct {
	Column int
	// Width announces room for the longest value; 0 lets Append find it.
	Width  int
	Values []string // one a row
}

// GenQueryOut is an answer of the catalog (GenQueryOut_PI), column by column. Packed
// it always has 50 columns; empty ones at the end are added and removed here.
type GenQueryOut struct {
	Rows     int
	Attrs    int // number of columns
	Continue int // 0 after the last rows
	Total    int // of all answers; 0 unless ReturnTotal was asked for
	Results  []SQLResult
}

func (*GenQueryOut) pi() string { return "GenQueryOut_PI" }

func (m *GenQueryOut) fields(c *codec) {
	c.int("rowCnt", &m.Rows)
	c.int("attriCnt", &m.Attrs)
	c.int("continueInx", &m.Continue)
	c.int("totalRowCount", &m.Total)
	if c.decode {
		m.decodeResults(c)
		return
	}
	for i := range max(len(m.Results), maxAttrs) {
		var r SQLResult
		if i < len(m.Results) {
			r = m.Results[i]
		}
		c.sub(&sqlResult{SQLResult: r, rows: len(r.Values)})
	}
}

func (m *GenQueryOut) decodeResults(c *codec) {
	if c.err == nil && (m.Rows < 0 || m.Attrs < 0 || m.Attrs > maxAttrs) {
		c.fail("%d rows of %d columns", m.Rows, m.Attrs)
		return
	}
	m.Results = nil
	for range m.Attrs {
		r := sqlResult{rows: m.Rows}
		c.sub(&r)
		if c.err != nil {
			return
		}
		m.Results = append(m.Results, r.SQLResult)
	}
}

// Value returns a value, "" if the answer has no such column or row.
func (m *GenQueryOut) Value(column, row int) string {
	for i := range m.Results {
		if m.Results[i].Column == column && row < len(m.Results[i].Values) {
			return m.Results[i].Values[row]
		}
	}
	return ""
}

// sqlResult is a SQLResult together with the number of rows, which its packing needs.
type sqlResult struct {
	SQLResult
	rows int
}

func (*sqlResult) pi() string { return "SqlResult_PI" }

func (m *sqlResult) fields(c *codec) {
	if !c.decode && m.Width == 0 && m.Column != 0 {
		m.Width = width(m.Values)
	}
	c.int("attriInx", &m.Column)
	c.int("reslen", &m.Width)
	if c.decode && m.Width == 0 {
		return
	}
	c.strs("value", &m.Values, m.rows)
}

// width returns the room that the server announces: C clients reserve it for each
// value.
func width(values []string) int {
	n := minResLen
	for _, v := range values {
		n = max(n, len(v)+1)
	}
	return n
}

// Genquery2Inp is a query in the second query language (Genquery2Input_PI). The
// answer is JSON in a STR, a list of rows of strings. Zone must be given. A single
// quote in a value is doubled. Without a limit in the query 256 rows come back.
type Genquery2Inp struct {
	Query          string
	Zone           string
	SQLOnly        int // 1: return the SQL
	ColumnMappings int // 1: return the names of columns
}

func (*Genquery2Inp) pi() string { return "Genquery2Input_PI" }

func (m *Genquery2Inp) fields(c *codec) {
	c.ptr("query_string", &m.Query)
	c.ptr("zone", &m.Zone)
	c.int("sql_only", &m.SQLOnly)
	c.int("column_mappings", &m.ColumnMappings)
}
