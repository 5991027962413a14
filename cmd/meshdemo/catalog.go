package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// connect logs in to the zone, beside meshmount.
func (c *collection) connect(ctx context.Context) (*wire.Conn, error) {
	config := wire.Config{
		Address: c.server.Addr(), User: c.user, Zone: c.zone, Policy: wire.PolicyDontCare,
		Password: func(context.Context) (string, error) { return c.password, nil },
	}
	if c.encrypted {
		pem, err := os.ReadFile(c.server.CAFile())
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.server.CAFile())
		}
		config.Policy, config.TLS = wire.PolicyRequire, &tls.Config{RootCAs: roots}
	}
	return wire.Dial(ctx, config)
}

// query asks the catalog and returns all rows.
func (c *collection) query(ctx context.Context, columns []int, wheres ...wire.Where) (rows [][]string, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	in := (&wire.GenQueryInp{MaxRows: 500}).Select(columns...)
	in.Wheres = wheres
	for {
		var out wire.GenQueryOut
		_, err := conn.Call(ctx, &wire.Call{API: wire.APIGenQuery, In: in, Out: &out})
		if wire.CodeOf(err) == wire.CodeNoRows {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range out.Rows {
			row := make([]string, len(columns))
			for j, column := range columns {
				row[j] = out.Value(column, i)
			}
			rows = append(rows, row)
		}
		if in.Continue = out.Continue; in.Continue == 0 {
			return rows, nil
		}
	}
}

// avus returns the attributes, values and units of an object of the branch.
func (c *collection) avus(ctx context.Context, name string) ([][]string, error) {
	dir, base := path.Split(c.server.Home(c.user) + "/" + name)
	return c.query(ctx, []int{wire.ColMetaDataName, wire.ColMetaDataValue, wire.ColMetaDataUnits},
		wire.Where{Column: wire.ColCollName, Cond: wire.Equal(path.Clean(dir))}, wire.Where{Column: wire.ColDataName, Cond: wire.Equal(base)})
}

// replicate makes a replica of an object on the second resource, as irepl does.
func (c *collection) replicate(ctx context.Context, name string) (err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	in := &wire.DataObjInp{Path: c.server.Home(c.user) + "/" + name}
	in.Cond.Set(wire.KwDestRescName, resources[1])
	_, err = conn.Call(ctx, &wire.Call{API: wire.APIDataObjRepl, In: in})
	return err
}
