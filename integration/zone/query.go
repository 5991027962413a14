package zone

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// query is a question to the catalog, in either language.
type query struct {
	a        *agent
	selects  []wire.Select
	columns  []column // of selects
	wheres   []where
	needs    need
	distinct bool
	upper    bool            // compare without regard to case
	extra    func(*row) bool // condition of the second language
}

// where is a parsed condition.
type where struct {
	number int
	column column
	text   string // as given, for shortcuts
	test   test
}

// newQuery looks up columns and parses conditions. The caller holds Zone.mu.
func (a *agent) newQuery(selects []wire.Select, conds []wire.Where) (*query, error) {
	q := &query{a: a, selects: selects, distinct: true}
	for _, s := range selects {
		c, ok := columnAt(s.Column)
		if !ok {
			return nil, code(wire.CodeUnknownTable)
		}
		q.columns = append(q.columns, c)
		q.needs |= c.need
	}
	for _, w := range conds {
		c, ok := columnAt(w.Column)
		if !ok {
			return nil, code(wire.CodeUnknownTable)
		}
		t, err := parseCond(w.Cond, c.number)
		if err != nil {
			return nil, err
		}
		q.wheres = append(q.wheres, where{w.Column, c, w.Cond, t})
		q.needs |= c.need
	}
	return q, nil
}

// run returns all rows of the answer. The caller holds Zone.mu.
func (q *query) run() [][]string {
	var rows [][]string
	q.each(func(r *row) {
		values := make([]string, len(q.columns))
		for i, c := range q.columns {
			values[i] = c.value(r)
		}
		rows = append(rows, values)
	})
	if aggregated := q.aggregate(rows); aggregated != nil {
		rows = aggregated
	}
	slices.SortStableFunc(rows, q.compareRows)
	if q.distinct {
		rows = slices.CompactFunc(rows, slices.Equal[[]string])
	}
	return rows
}

// compareRows compares by the columns that an order was asked for, then by collection,
// name and replica as the server does unasked, and then, as a database that drops
// duplicates may do, by all.
func (q *query) compareRows(x, y []string) int {
	for i, s := range q.selects {
		n := 0
		switch {
		case s.Option&wire.OrderByDesc != 0:
			n = compare(y[i], x[i], q.columns[i].number)
		case s.Option&wire.OrderBy != 0:
			n = compare(x[i], y[i], q.columns[i].number)
		}
		if n != 0 {
			return n
		}
	}
	for _, number := range []int{wire.ColCollName, wire.ColDataName, wire.ColReplNum} {
		for i, s := range q.selects {
			if n := compare(x[i], y[i], q.columns[i].number); n != 0 && s.Column == number && function(s) < wire.SelectMin {
				return n
			}
		}
	}
	if !q.distinct {
		return 0
	}
	for i := range x {
		if n := compare(x[i], y[i], q.columns[i].number); n != 0 {
			return n
		}
	}
	return 0
}

// matches tells whether the row meets all conditions and may be seen.
func (q *query) matches(r *row) bool {
	for _, w := range q.wheres {
		v := w.column.value(r)
		if q.upper {
			v = strings.ToUpper(v)
		}
		if !w.test(v) {
			return false
		}
	}
	return (q.extra == nil || q.extra(r)) && q.visible(r)
}

// visible applies the strict access policy, the default of servers: others than
// administrators get rows about what they can read or have a ticket for.
func (q *query) visible(r *row) bool {
	if q.a.user.admin() {
		return true
	}
	if q.a.ticket != nil && r.coll != nil {
		return q.a.ticketFor(r.coll, r.obj, false)
	}
	if q.needs&needData != 0 && r.obj.Access.level(q.a.user) < levelRead {
		return false
	}
	if q.needs&needColl != 0 && r.coll.Access.level(q.a.user) < levelRead {
		return false
	}
	return q.needs&needTicket == 0 || r.ticket.Owner == q.a.user.ID
}

// each calls yield for each row that matches.
func (q *query) each(yield func(*row)) {
	emit := func(r *row) {
		if q.matches(r) {
			yield(r)
		}
	}
	steps := []struct {
		need   need
		expand func(*row, func(*row))
	}{
		{needDataMeta, expandDataMeta}, {needCollMeta, expandCollMeta}, {needDataAccess, expandDataAccess},
		{needCollAccess, expandCollAccess}, {needMember, expandMember}, {needResc, expandResc}, {needRescMeta, expandRescMeta},
		{needUser, expandUser}, {needGroup, expandGroup}, {needUserMeta, expandUserMeta}, {needTicket, expandTicket},
	}
	for _, step := range slices.Backward(steps) {
		if q.needs&step.need == 0 {
			continue
		}
		next := emit
		emit = func(r *row) { step.expand(r, next) }
	}
	q.base(emit)
}

// base yields the combinations of collection, object and replica.
func (q *query) base(yield func(*row)) {
	r := &row{z: q.a.z}
	if q.needs&(needData|needColl) == 0 {
		yield(r)
		return
	}
	for _, r.coll = range q.collections() {
		if q.needs&needData == 0 {
			yield(r)
			continue
		}
		for _, r.obj = range q.objects(r.coll) {
			for _, r.repl = range r.obj.Replicas {
				yield(r)
			}
		}
	}
}

// equal returns the value of a condition "= 'x'" on a column.
func (q *query) equal(number int) (string, bool) {
	for _, w := range q.wheres {
		value, ok := equalValue(w.text)
		if w.number == number && ok && !q.upper {
			return value, true
		}
	}
	return "", false
}

// collections returns those that the conditions leave.
func (q *query) collections() []*coll {
	cat := q.a.z.cat
	if path, ok := q.equal(wire.ColCollName); ok {
		return one(cat.collAt(path))
	}
	if path, ok := q.equal(wire.ColCollParentName); ok {
		if parent := cat.collAt(path); parent != nil && path != "/" {
			return slices.Collect(maps.Values(parent.subs))
		}
	}
	for _, col := range []int{wire.ColCollID, wire.ColDataCollID} {
		if text, ok := q.equal(col); ok {
			return one(cat.colls[number(text)])
		}
	}
	if text, ok := q.equal(wire.ColDataID); ok {
		if o := cat.objs[number(text)]; o != nil {
			return one(o.coll)
		}
	}
	return slices.SortedFunc(maps.Values(cat.colls), func(x, y *coll) int { return cmp.Compare(x.ID, y.ID) })
}

func one(x *coll) []*coll {
	if x == nil {
		return nil
	}
	return []*coll{x}
}

func (q *query) objects(x *coll) []*object {
	if name, ok := q.equal(wire.ColDataName); ok {
		if o := x.objs[name]; o != nil {
			return []*object{o}
		}
		return nil
	}
	return slices.SortedFunc(maps.Values(x.objs), func(a, b *object) int { return cmp.Compare(a.ID, b.ID) })
}

func expandDataMeta(r *row, yield func(*row)) {
	for i := range r.obj.AVUs {
		r.dataMeta = &r.obj.AVUs[i]
		yield(r)
	}
}

func expandCollMeta(r *row, yield func(*row)) {
	for i := range r.coll.AVUs {
		r.collMeta = &r.coll.AVUs[i]
		yield(r)
	}
}

func expandRescMeta(r *row, yield func(*row)) {
	for i := range r.resc.AVUs {
		r.rescMeta = &r.resc.AVUs[i]
		yield(r)
	}
}

func expandUserMeta(r *row, yield func(*row)) {
	for i := range r.user.AVUs {
		r.userMeta = &r.user.AVUs[i]
		yield(r)
	}
}

func expandDataAccess(r *row, yield func(*row)) { expandAccess(r, r.obj.Access, yield) }
func expandCollAccess(r *row, yield func(*row)) { expandAccess(r, r.coll.Access, yield) }

func expandAccess(r *row, acc access, yield func(*row)) {
	for _, id := range slices.Sorted(maps.Keys(acc)) {
		if r.grantee = r.z.cat.users[id]; r.grantee != nil {
			r.granted = acc[id]
			yield(r)
		}
	}
}

// expandResc adds the replica's resource, or all if the row has no replica.
func expandResc(r *row, yield func(*row)) {
	if r.repl != nil {
		r.resc = r.onResource()
		yield(r)
		return
	}
	for _, r.resc = range r.z.cat.resources {
		yield(r)
	}
}

// expandUser adds the user to whom something is granted, or all.
func expandUser(r *row, yield func(*row)) {
	if r.grantee != nil {
		r.user = r.grantee
		yield(r)
		return
	}
	for _, r.user = range r.z.cat.users {
		yield(r)
	}
}

// expandGroup adds the groups of the user, which is one itself.
func expandGroup(r *row, yield func(*row)) {
	r.group = r.user
	yield(r)
	for _, id := range r.user.Groups {
		if r.group = r.z.cat.users[id]; r.group != nil {
			yield(r)
		}
	}
}

// expandMember adds whom something is granted to: a user, or a group and its members.
func expandMember(r *row, yield func(*row)) {
	for _, id := range slices.Sorted(maps.Keys(r.z.cat.users)) {
		r.member = r.z.cat.users[id]
		if id == r.grantee.ID || slices.Contains(r.member.Groups, r.grantee.ID) {
			yield(r)
		}
	}
}

func expandTicket(r *row, yield func(*row)) {
	for _, r.ticket = range r.z.cat.tickets {
		yield(r)
	}
}
