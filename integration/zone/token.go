package zone

import "github.com/meshmount/meshmount/remote/irods/wire"

// entry is what the server remembers of those that have a replica open for writing. By
// its source it stays until the last of them has closed or is gone, also if the lock has
// ended before; nobody else can open the replica for writing meanwhile.
type entry struct {
	token   string
	writers int
}

// enter adds a writer to the entry of its replica. A writer without the token of those
// that have the replica open is refused, which it learns only after the open has locked
// the object and, if it was asked to, truncated the replica.
func (d *desc) enter() error {
	r, w := d.replica, d.obj.writing
	given, _ := d.in.Cond.Get(wire.KwReplicaToken)
	switch {
	case r.entry == nil:
		r.entry = &entry{token: w.token}
	case given != r.entry.token:
		return code(wire.CodeInternal)
	}
	w.token = r.entry.token
	r.entry.writers++
	d.write = w
	return nil
}

// exit takes a writer out of the entry of its replica.
func (d *desc) exit() {
	r := d.replica
	if d.write == nil || d.exited {
		return
	}
	d.exited = true
	if r.entry.writers--; r.entry.writers == 0 {
		r.entry = nil
	}
}
