package zone

import (
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// ticket lets its bearer read or write one object or what is below one collection.
type ticket struct {
	ID     int64
	Text   string
	Write  bool
	Entity int64 // of the object or collection
	Owner  int64
	Expiry int64 // seconds since 1970, 0: never
	Create int64
}

// ticketFor tells whether the connection has a ticket for a collection or, if that is
// not nil, an object in it.
func (a *agent) ticketFor(x *coll, o *object, write bool) bool {
	t := a.ticket
	if t == nil || (write && !t.Write) || (t.Expiry != 0 && t.Expiry < a.z.now()) {
		return false
	}
	if o != nil && o.ID == t.Entity {
		return true
	}
	for ; x != nil; x = x.parent {
		if x.ID == t.Entity {
			return true
		}
	}
	return false
}

// ticketAdmin is call 723: "session" uses a ticket for the rest of the connection,
// "create", "mod" and "delete" handle the user's own.
func (a *agent) ticketAdmin(in *wire.TicketAdminInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	t := a.z.cat.ticketNamed(in.Args[1])
	if in.Args[0] == "create" {
		return answer{}, a.createTicket(in, t)
	}
	if t == nil {
		return answer{}, code(wire.CodeTicketInvalid)
	}
	if in.Args[0] == "session" {
		a.ticket = t
		return answer{}, nil
	}
	if t.Owner != a.user.ID && !a.user.admin() {
		return answer{}, code(wire.CodeNoAccess)
	}
	switch in.Args[0] {
	case "delete":
		delete(a.z.cat.tickets, t.ID)
		a.z.cat.save(record{Gone: t.ID})
		return answer{}, nil
	case "mod":
		if in.Args[2] != "expire" {
			return answer{}, code(wire.CodeInvalidArgument)
		}
		seconds, err := strconv.ParseInt(in.Args[3], 10, 64)
		if err != nil {
			return answer{}, code(wire.CodeInvalidArgument)
		}
		t.Expiry = seconds
		a.z.cat.save(record{Ticket: t})
		return answer{}, nil
	}
	return answer{}, code(wire.CodeInvalidArgument)
}

// createTicket needs the level own on what the ticket is for.
func (a *agent) createTicket(in *wire.TicketAdminInp, old *ticket) error {
	if old != nil {
		return code(wire.CodeExists)
	}
	t := &ticket{Text: in.Args[1], Write: in.Args[2] == "write", Owner: a.user.ID, Create: a.z.now()}
	var acc access
	if o := a.z.cat.objectAt(in.Args[3]); o != nil {
		t.Entity, acc = o.ID, o.Access
	} else if x := a.z.cat.collAt(in.Args[3]); x != nil {
		t.Entity, acc = x.ID, x.Access
	} else {
		return code(wire.CodeUnknownCollection)
	}
	if err := a.may(acc, levelOwn); err != nil {
		return err
	}
	t.ID = a.z.cat.newID()
	a.z.cat.tickets[t.ID] = t
	a.z.cat.save(record{Ticket: t})
	return nil
}

func (c *catalog) ticketNamed(text string) *ticket {
	for _, t := range c.tickets {
		if t.Text == text && text != "" {
			return t
		}
	}
	return nil
}
