package webdav

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// public tells whether the root is that of a public link.
func (b *Backend) public() bool { return strings.Contains(b.dir, "/public.php/") }

const maxJSON = 4 << 20 // bytes of a document

func readJSON(r io.Reader, v any) error {
	return json.NewDecoder(io.LimitReader(r, maxJSON)).Decode(v)
}

// ocs asks for one document of the OCS interface and reads its data into v.
func (c *call) ocs(ctx context.Context, path string, v any) error {
	r := &request{
		// A share's token is no account: OCS would count it as a failed login.
		anonymous: c.b.public() || strings.Contains(c.b.dir, "/dav/ocm"),
		method:    http.MethodGet, url: c.b.site("/ocs/v2.php" + path + "?format=json"), repeats: true,
		header: map[string]string{"OCS-APIRequest": "true", "Accept": "application/json"},
	}
	resp, err := c.expect(ctx, r, http.StatusOK)
	if err != nil {
		return err
	}
	defer closeBody(resp)
	var doc struct {
		OCS struct {
			Data json.RawMessage `json:"data"`
		} `json:"ocs"`
	}
	if err := readJSON(resp.Body, &doc); err != nil {
		return c.fail(remote.Corrupt, err)
	}
	// PHP sends an object for some lists, or a text for a number: the rest counts.
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(doc.OCS.Data, v); err != nil && !errors.As(err, &odd) {
		return c.fail(remote.Corrupt, err)
	}
	return nil
}

// userID asks for the user's id in URLs, which may differ from the login name.
func (c *call) userID(ctx context.Context) (string, error) {
	var user struct {
		ID string `json:"id"`
	}
	if err := c.ocs(ctx, "/cloud/user", &user); err != nil {
		return "", err
	}
	if user.ID == "" || user.ID == "." || user.ID == ".." || strings.ContainsAny(user.ID, "/\x00") {
		return "", c.failf(remote.Corrupt, "the server says %q is the user's id", bounded(user.ID, 40))
	}
	return user.ID, nil
}

// capabilities are the parts of the OCS capabilities that we use. Numbers come as
// numbers or texts.
type capabilities struct {
	Capabilities struct {
		DAV struct {
			Chunking       string `json:"chunking"`
			Bulk           string `json:"bulkupload"`
			PublicChunking bool   `json:"public_shares_chunking"`
		} `json:"dav"`
		Files struct {
			Chunked struct {
				MaxSize  int64 `json:"max_size"`
				Parallel int   `json:"max_parallel_count"`
			} `json:"chunked_upload"`
			Tus struct {
				Extension string `json:"extension"`
				MaxChunk  int64  `json:"max_chunk_size"`
			} `json:"tus_support"`
			Archivers  []archiverDoc `json:"archivers"`
			Names      []string      `json:"forbidden_filenames"`
			Basenames  []string      `json:"forbidden_filename_basenames"`
			Characters []string      `json:"forbidden_filename_characters"`
			Endings    []string      `json:"forbidden_filename_extensions"`
		} `json:"files"`
	} `json:"capabilities"`
}

// fetchCapabilities asks for the capabilities. A server that does not tell has none.
func (c *call) fetchCapabilities(ctx context.Context) (*capabilities, error) {
	var caps capabilities
	err := c.ocs(ctx, "/cloud/capabilities", &caps)
	switch kind := remote.KindOf(err); {
	case err == nil:
		return &caps, nil
	case statusOf(err) == http.StatusUnauthorized && c.b.public():
		return &capabilities{}, nil
	case statusOf(err) != 0 && kind != remote.Auth && kind != remote.Unavailable, kind == remote.Corrupt:
		return &capabilities{}, nil
	}
	return nil, err
}
