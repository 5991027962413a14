package zone

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// checksumFile returns a file's checksum in the form of the catalog: "sha2:" and base64.
func checksumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return "sha2:" + base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// checksumLike computes a checksum of the same kind as one that a client gave: MD5 in hex,
// otherwise that of the catalog.
func checksumLike(path, given string) (string, error) {
	if len(given) != hex.EncodedLen(md5.Size) {
		return checksumFile(path)
	}
	data, err := os.ReadFile(path)
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:]), err
}

// chksum is call 629: the checksum in the catalog, computed if there is none or with
// force.
func (a *agent) chksum(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	o, err := a.find(in.Path)
	if err == nil && o.writing != nil {
		err = code(wire.CodeHierarchy)
	}
	var r *replica
	if err == nil {
		r, err = a.named(o, &in.Cond)
	}
	if err != nil {
		a.z.mu.Unlock()
		return answer{}, err
	}
	have, path, modified := r.Checksum, a.z.cat.file(o, r), r.Modify
	a.z.mu.Unlock()
	if have != "" && !in.Cond.Has(wire.KwForceChecksum) && !in.Cond.Has(wire.KwVerifyChecksum) {
		return answer{out: &wire.STR{Text: have}}, nil
	}
	sum, err := checksumFile(path)
	if err != nil {
		return answer{}, errnoCode(wire.CodeUnixRead, err)
	}
	if in.Cond.Has(wire.KwVerifyChecksum) && have != "" {
		if sum != have {
			return answer{}, code(wire.CodeChecksum)
		}
		return answer{out: &wire.STR{Text: have}}, nil
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if !o.gone && o.writing == nil && r.Modify == modified {
		r.Checksum = sum
		a.z.cat.save(record{Object: o})
	}
	return answer{out: &wire.STR{Text: sum}}, nil
}
