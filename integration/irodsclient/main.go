// Command irodsclient uses a zone through go-irodsclient, a client that others have
// written, and ends with the word "done" if everything is as it should be:
//
//	irodsclient PORT ZONE USER PASSWORD [CA]
//
// It has a module of its own, so that the product does not depend on that library.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cyverse/go-irodsclient/fs"
	"github.com/cyverse/go-irodsclient/irods/types"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		panic(err) // the status is then not 0
	}
	fmt.Println("done")
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: irodsclient PORT ZONE USER PASSWORD [CA]")
	}
	if _, err := connect(append([]string{args[0], args[1], args[2], "wrong"}, args[4:]...)); err == nil {
		return errors.New("a wrong password works")
	}
	c, err := connect(args)
	if err != nil {
		return err
	}
	defer c.Release()
	home := "/" + args[1] + "/home/" + args[2] + "/goclient"
	for _, step := range []func(*fs.FileSystem, string) error{directories, files, transfers, metadata, access} {
		if err := step(c, home); err != nil {
			return err
		}
	}
	return c.RemoveDir(home, true, true)
}

// connect logs in, over TLS if there is a file with an authority.
func connect(args []string) (*fs.FileSystem, error) {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return nil, err
	}
	account, err := types.CreateIRODSAccount("127.0.0.1", port, args[2], args[1], types.AuthSchemeNative, args[3], "")
	if err != nil {
		return nil, err
	}
	if len(args) > 4 {
		account.SetCSNegotiation(true, types.CSNegotiationPolicyRequestSSL)
		account.SetSSLConfiguration(&types.IRODSSSLConfig{
			CACertificateFile: args[4], VerifyServer: types.SSLVerifyServerHostname,
			EncryptionAlgorithm: "AES-256-CBC", EncryptionKeySize: 32, EncryptionSaltSize: 8, EncryptionNumHashRounds: 16,
		})
	}
	return fs.NewFileSystemWithDefault(account, "meshmount-test")
}

// want returns an error unless the condition holds.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func directories(c *fs.FileSystem, home string) error {
	for _, dir := range []string{home, home + "/a", home + "/a/b"} {
		if err := c.MakeDir(dir, false); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if err := c.RenameDirToDir(home+"/a", home+"/c"); err != nil {
		return err
	}
	if c.ExistsDir(home+"/a/b") || !c.ExistsDir(home+"/c/b") {
		return errors.New("rename of a directory")
	}
	entries, err := c.List(home)
	if err != nil {
		return err
	}
	return want(len(entries) == 1 && entries[0].Name == "c" && entries[0].IsDir(), "list: %v", entries)
}

func files(c *fs.FileSystem, home string) error {
	for _, name := range []string{"plain", "a b", "it's", "ä😀", "amp&lt<gt>\"q"} {
		path := home + "/" + name
		if err := writeFile(c, path, name); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		got, err := readFile(c, path)
		if err != nil || got != name {
			return fmt.Errorf("read %q: %q, %w", name, got, err)
		}
		entry, err := c.StatFile(path)
		if err != nil || entry.Name != name || entry.Size != int64(len(name)) {
			return fmt.Errorf("stat %q: %+v, %w", name, entry, err)
		}
	}
	if err := c.RenameFileToFile(home+"/plain", home+"/moved"); err != nil {
		return err
	}
	if err := c.CopyFileToFile(home+"/moved", home+"/copy", false); err != nil {
		return err
	}
	if err := c.TruncateFile(home+"/copy", 2); err != nil {
		return err
	}
	if got, err := readFile(c, home+"/copy"); err != nil || got != "pl" {
		return fmt.Errorf("copy: %q, %w", got, err)
	}
	if err := c.ReplicateFile(home+"/moved", "resc2", false); err != nil {
		return err
	}
	if err := c.RemoveFile(home+"/copy", true); err != nil {
		return err
	}
	entries, err := c.List(home)
	if err != nil {
		return err
	}
	return want(len(entries) == 6 && !c.ExistsFile(home+"/copy"), "%d entries", len(entries))
}

func writeFile(c *fs.FileSystem, path, content string) error {
	h, err := c.CreateFile(path, "", "w")
	if err != nil {
		return err
	}
	_, err = h.Write([]byte(content))
	return errors.Join(err, h.Close())
}

func readFile(c *fs.FileSystem, path string) (string, error) {
	h, err := c.OpenFile(path, "", "r")
	if err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	n, err := h.Read(buf)
	if err == io.EOF {
		err = nil
	}
	return string(buf[:n]), errors.Join(err, h.Close())
}

// transfers moves a large file in both directions, over several connections with
// checksums.
func transfers(c *fs.FileSystem, home string) error {
	dir, err := os.MkdirTemp("", "irodsclient")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<20)
	up, down := filepath.Join(dir, "up"), filepath.Join(dir, "down")
	if err := os.WriteFile(up, data, 0o600); err != nil {
		return err
	}
	if _, err := c.UploadFileParallel(up, home+"/big", "", 4, false, true, false, nil); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if _, err := c.DownloadFileParallel(home+"/big", "", down, 4, true, nil); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	got, err := os.ReadFile(down)
	if err != nil {
		return err
	}
	return want(bytes.Equal(got, data), "a large file comes back changed")
}

func metadata(c *fs.FileSystem, home string) error {
	path := home + "/moved"
	if err := c.AddMetadata(path, "key", "value", "unit"); err != nil {
		return err
	}
	if err := c.AddMetadata(path, "key", "other", ""); err != nil {
		return err
	}
	if err := c.DeleteMetadataByAVU(path, "key", "other", ""); err != nil {
		return err
	}
	all, err := c.ListMetadata(path)
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0].Value != "value" || all[0].Units != "unit" {
		return fmt.Errorf("metadata: %v", all)
	}
	found, err := c.SearchByMeta("key", "value")
	if err != nil {
		return err
	}
	return want(len(found) == 1 && found[0].Path == path, "found by metadata: %v", found)
}

func access(c *fs.FileSystem, home string) error {
	path := home + "/moved"
	if err := c.ChangeACLs(path, types.IRODSAccessLevelReadObject, "alice", c.GetAccount().ClientZone, false, false); err != nil {
		return err
	}
	list, err := c.ListACLs(path)
	if err != nil {
		return err
	}
	levels := map[string]types.IRODSAccessLevelType{}
	for _, a := range list {
		levels[a.UserName] = a.AccessLevel
	}
	return want(len(list) == 2 && levels["alice"] == types.IRODSAccessLevelReadObject, "access: %v", levels)
}
