package zone

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Account is a user of the zone.
type Account struct {
	Name     string
	Zone     string // of a user of a federated zone; empty: this one
	Password string // for native authentication
	PAM      string // for PAM; empty: none
	Admin    bool
	Groups   []string // made if missing
}

// Options configure a Zone. The zero value of a field means its default.
type Options struct {
	Dir      string    // where catalog and data lie; made if missing
	Name     string    // of the zone; default "tempZone"
	Accounts []Account // at least one
	// Resources are the storage resources; the first one is the default. By default
	// there are two, "demoResc" and "resc2".
	Resources []string
	// FreeSpace says what the catalog knows of the room on resources, in bytes. A real
	// catalog knows nothing until an administrator has told it.
	FreeSpace map[string]int64
	Addr      string // where to listen; default 127.0.0.1:0, any free port
	// TLS makes a certificate for 127.0.0.1 and localhost, of an authority of the
	// zone's own that stays the same over restarts.
	TLS bool
	// NotAfter is when the certificate expires, by default a year from now.
	NotAfter time.Time
	// Policy on TLS. The real server's default is wire.PolicyRefuse, under which a
	// client that insists gets TLS all the same.
	Policy wire.Policy
	// Release is the version to announce, default "rods5.0.2".
	Release string
	// MaxAgents limits connections. One more is refused with -167000, as by a real
	// server whose database takes no more. 0: no limit.
	MaxAgents int
	// MaxDescriptors is the limit of open objects of a connection, default 1015 as
	// measured; one more fails with -510024.
	MaxDescriptors int
	// Now is the zone's clock, by default time.Now.
	Now func() time.Time
	// Log gets one debug line a call. Default: nothing is logged.
	Log *slog.Logger
}

func (o *Options) setDefaults() {
	if o.Name == "" {
		o.Name = "tempZone"
	}
	if len(o.Resources) == 0 {
		o.Resources = []string{"demoResc", "resc2"}
	}
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Release == "" {
		o.Release = wire.Release
	}
	if o.MaxDescriptors == 0 {
		o.MaxDescriptors = 1015
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// validate reports all faults at once.
func (o *Options) validate() error {
	var faults []error
	if o.Dir == "" {
		faults = append(faults, errors.New("no directory"))
	}
	if !plainName(o.Name) {
		faults = append(faults, fmt.Errorf("zone name %q cannot be used", o.Name))
	}
	if len(o.Accounts) == 0 {
		faults = append(faults, errors.New("no account"))
	}
	for _, a := range o.Accounts {
		if !plainName(a.Name) || a.Zone != "" && !plainName(a.Zone) || len(a.Password) > wire.MaxPassword {
			faults = append(faults, fmt.Errorf("account %q cannot be used", a.Name))
		}
	}
	for _, name := range o.Resources {
		if !plainName(name) {
			faults = append(faults, fmt.Errorf("resource name %q cannot be used", name))
		}
	}
	return errors.Join(faults...)
}

func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/#;\x00\n")
}
