package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// resources are the storage resources of a zone; new objects go to the first one.
var resources = [2]string{"diskResc", "tapeResc"}

// collection is a user's home collection in an iRODS zone.
type collection struct {
	name, zone, user, password string
	dir                        string // the server's catalog and data
	encrypted                  bool   // the zone requires TLS
	server                     *zone.Zone
}

func (c *collection) branch() string { return c.name }

// url names the server only for the zone that iCommands have not been set up for.
func (c *collection) url() string {
	if c.encrypted {
		return "irods:///" + c.zone + "/home/" + c.user
	}
	return "irods://" + c.user + "@" + c.server.Addr() + c.server.Home(c.user)
}

func (c *collection) about() string {
	how := "without TLS"
	if c.encrypted {
		how = "TLS required"
	}
	return fmt.Sprintf("iRODS zone %s at %s, %s; data in %s", c.zone, c.server.Addr(), how, filepath.Join(c.dir, "vault"))
}

func (c *collection) start() (err error) {
	opts := zone.Options{
		Dir: c.dir, Name: c.zone, Resources: resources[:],
		Accounts: []zone.Account{{Name: c.user, Password: c.password}},
		Policy:   wire.PolicyRefuse, // what a zone does that nobody has set up for TLS
	}
	if c.encrypted {
		opts.TLS, opts.Policy = true, wire.PolicyRequire
	}
	if c.server, err = zone.Start(opts); err != nil {
		c.server = nil
		return fmt.Errorf("start of the zone for %s: %w", c.name, err)
	}
	return nil
}

func (c *collection) stop() error {
	if c.server == nil {
		return nil
	}
	err := c.server.Close()
	c.server = nil
	return err
}

// environment writes what iinit leaves: the file with the settings and the one with
// the password. It returns the name of the first.
func (c *collection) environment(dir string) (string, error) {
	host, port, err := net.SplitHostPort(c.server.Addr())
	if err != nil {
		return "", err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	password := filepath.Join(dir, ".irodsA")
	text, err := json.MarshalIndent(map[string]any{
		irods.KeyHost: host, irods.KeyPort: number, irods.KeyUser: c.user, irods.KeyZone: c.zone,
		irods.KeyPolicy: "CS_NEG_REQUIRE", irods.KeyCAFile: c.server.CAFile(), irods.KeyAuthFile: password,
	}, "", "  ")
	if err != nil {
		return "", err
	}
	now := time.Now()
	scrambled, err := irods.Scramble(c.password, os.Getuid(), now, 0)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "irods_environment.json")
	return name, errors.Join(os.WriteFile(name, append(text, '\n'), 0o600),
		os.WriteFile(password, scrambled, 0o600), os.Chtimes(password, now, now))
}

// replicaColumns are what held reads from the catalog, a row for each replica.
var replicaColumns = []int{
	wire.ColCollName, wire.ColDataName, wire.ColDataID, wire.ColReplNum, wire.ColDataRescName,
	wire.ColReplStatus, wire.ColDataChecksum, wire.ColDataSize, wire.ColDataPath,
}

// held asks the catalog for all objects and reads their replicas in the vault. The
// catalog's checksum and size must be those of the bytes in each good replica.
func (c *collection) held(ctx context.Context) (map[string]held, error) {
	home := c.server.Home(c.user)
	rows, err := c.query(ctx, replicaColumns, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home) + " || " + wire.Like(home+"/%")})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[3], b[3]) }) // by number of replica
	found := map[string]held{}
	for _, row := range rows {
		path := strings.TrimPrefix(row[0]+"/"+row[1], home+"/")
		have, seen := found[path]
		sum, err := goodReplica(row)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %s: %w", c.zone, path, err)
		case !seen:
			have = held{hex: sum, note: "object " + row[2] + " on " + row[4]}
		case sum != "" && have.hex != "" && sum != have.hex:
			return nil, fmt.Errorf("%s: the good replicas of %s differ", c.zone, path)
		default:
			have.note += " and " + row[4]
		}
		if sum == "" {
			have.note += " (not good)"
		}
		if have.hex == "" {
			have.hex = sum
		}
		found[path] = have
	}
	return found, nil
}

// goodReplica returns the SHA-256 of a replica's bytes in the vault, "" if the catalog
// says that they do not count.
func goodReplica(row []string) (string, error) {
	if row[5] != strconv.Itoa(wire.ReplicaGood) {
		return "", nil
	}
	sum, err := digest(row[8])
	if err != nil {
		return "", err
	}
	info, err := os.Stat(row[8])
	if err != nil {
		return "", err
	}
	catalog, err := catalogSum(row[6])
	if err == nil && (catalog != sum || row[7] != strconv.FormatInt(info.Size(), 10)) {
		err = fmt.Errorf("the catalog says %s bytes with the SHA-256 %s, on %s are %d with %s", row[7], catalog, row[4], info.Size(), sum)
	}
	return sum, err
}

// catalogSum turns "sha2:BASE64" into hex.
func catalogSum(text string) (string, error) {
	encoded, ok := strings.CutPrefix(text, "sha2:")
	if !ok {
		return "", fmt.Errorf("the catalog has the checksum %q, not a SHA-256", text)
	}
	sum, err := base64.StdEncoding.DecodeString(encoded)
	return hex.EncodeToString(sum), err
}
