package zone

import (
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// TestLingeringWriter has a writer that has joined outlive the first one: the lock has
// ended, but nobody without the token can write until that writer is gone too, and who
// has it locks the object anew. Closing without the catalog then leaves it locked.
func TestLingeringWriter(t *testing.T) {
	z := start(t, nil)
	path := z.Home("rods") + "/big"
	other := dial(t, z, "rods", "rods")
	other.put(path, "old")
	join := func(c *client, token, hier string) int {
		t.Helper()
		return c.open(path, wire.OpenWriteOnly, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: hier})
	}
	first, second, third := dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods")
	token, hier := first.token(first.open(path, wire.OpenReadWrite))
	fd := join(second, token, hier)
	_ = first.Close()
	waitFor(t, func() bool { return z.Agents() == 3 })
	if got := other.replicas("big"); got != "0 0 3 demoResc" {
		t.Errorf("after the death of the first writer: %s", got)
	}
	other.openFails(path, wire.OpenWriteOnly, wire.CodeInternal)
	if got := other.replicas("big"); got != "0 0 3 demoResc" {
		t.Errorf("after a refused open: %s", got)
	}
	late := join(third, token, hier)
	if got := other.replicas("big"); got != "0 2 3 demoResc" {
		t.Errorf("after another open with the token: %s", got)
	}
	third.json(wire.APIReplicaClose, map[string]any{"fd": late, "update_size": false, "update_status": false}, 0)
	if got := other.replicas("big"); got != "0 2 3 demoResc" {
		t.Errorf("after a close without the catalog: %s", got)
	}
	second.write(fd, "new")
	_ = second.Close()
	waitFor(t, func() bool { return z.Agents() == 2 })
	if got := other.replicas("big"); got != "0 0 3 demoResc" {
		t.Errorf("after the death of the last writer: %s", got)
	}
	other.put(path, "written again")
	if got := other.replicas("big"); got != "0 1 13 demoResc" {
		t.Errorf("after another write: %s", got)
	}
}
