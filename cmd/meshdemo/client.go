package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
)

//go:embed job/objects.py
var objectsPy string

// python is the interpreter that finds Debian's packages.
const python = "/usr/bin/python3"

// object is what the independent client tells of an object.
type object struct {
	Path     string
	Size     int64
	SHA256   string
	Checksum string
	Replicas [][2]string // resource and status
}

// clients looks at both zones with a client that has nothing in common with meshmount.
func (d *demo) clients(ctx context.Context) error {
	d.title("The zones as an independent client sees them (python3-irodsclient)")
	if err := exec.CommandContext(ctx, python, "-c", "import irods").Run(); err != nil {
		d.say("it is not installed; above, catalog and vault were read without it")
		return nil
	}
	for _, c := range []*collection{d.project, d.archive} {
		if err := d.client(ctx, c); err != nil {
			return fmt.Errorf("%s through python3-irodsclient: %w", c.zone, err)
		}
	}
	return nil
}

// client compares the objects of a zone with the files in the mount.
func (d *demo) client(ctx context.Context, c *collection) error {
	objects, err := c.objects(ctx)
	if err != nil {
		return err
	}
	mount, err := sums(d.at(c))
	if err != nil {
		return err
	}
	if len(objects) != len(mount) {
		return fmt.Errorf("%d objects, but %d files in the mount", len(objects), len(mount))
	}
	var size int64
	for _, o := range objects {
		sum, err := catalogSum(o.Checksum)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Path, err)
		}
		if o.SHA256 != sum || o.SHA256 != mount[o.Path] {
			return fmt.Errorf("%s: read were %s, the catalog has %s, the mount %s", o.Path, o.SHA256, sum, mount[o.Path])
		}
		size += o.Size
		if o.Path == largeFile || o.Path == summaryFile {
			d.say("%s/%s: %d bytes, %.16s..., replicas %s", c.name, o.Path, o.Size, o.Checksum, o.replicas())
		}
	}
	d.say("%s: all %d objects, %d bytes, are the files in the mount", c.zone, len(objects), size)
	return nil
}

func (o *object) replicas() string {
	words := make([]string, len(o.Replicas))
	for i, r := range o.Replicas {
		words[i] = r[0] + " (" + map[string]string{"0": "stale", "1": "good", "2": "being written"}[r[1]] + ")"
	}
	return strings.Join(words, ", ")
}

// objects runs the client.
func (c *collection) objects(ctx context.Context) (list []object, err error) {
	_, port, err := net.SplitHostPort(c.server.Addr())
	if err != nil {
		return nil, err
	}
	args := []string{"-c", objectsPy, port, c.zone, c.user}
	if c.encrypted {
		args = append(args, c.server.CAFile())
	}
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(cmd.Environ(), "ZONE_PASSWORD="+c.password)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, errs.String())
	}
	return list, json.Unmarshal(out, &list)
}
