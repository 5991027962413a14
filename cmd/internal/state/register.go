package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// registerFile names the entry of a mount point in this user's register.
func registerFile(point string) (string, error) {
	root, err := CacheRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "mounts", short(point)+".json"), nil
}

// controlSocket names the control socket of a mount: beside its entry in the register, or
// in the cache directory if no register can be had or the mount point has no name of its own.
func controlSocket(point, cacheDir string) string {
	name, err := registerFile(point)
	if err != nil || PassedFD(point) || Private(filepath.Dir(name)) != nil {
		return filepath.Join(cacheDir, "control.sock")
	}
	return strings.TrimSuffix(name, ".json") + ".sock"
}

// Register notes which process serves a mount point, so that "unmount" finds it
// even when the mount itself is gone or does not answer. The returned function
// removes the note.
func Register(h Holder) (remove func() error, err error) {
	name, err := registerFile(h.Point)
	if err != nil {
		return nil, err
	}
	if err := Private(filepath.Dir(name)); err != nil {
		return nil, err
	}
	if err := writeJSON(name, h); err != nil {
		return nil, cacheError(filepath.Dir(name), err)
	}
	return func() error {
		if now, err := Registered(h.Point); err != nil || now != h {
			return nil // another mount has taken the place
		}
		return os.Remove(name)
	}, nil
}

// Registered returns the process that was noted for a mount point. The error is
// os.ErrNotExist if there is none.
func Registered(point string) (Holder, error) {
	var h Holder
	name, err := registerFile(point)
	if err != nil {
		return h, err
	}
	if err := CheckPrivate(filepath.Dir(name)); err != nil {
		if _, statErr := os.Lstat(filepath.Dir(name)); errors.Is(statErr, os.ErrNotExist) {
			return h, os.ErrNotExist
		}
		return h, err
	}
	err = readJSON(name, &h)
	if err == nil && h.Point != point {
		return Holder{}, os.ErrNotExist
	}
	return h, err
}

// Ending is how a mount's process ended. It is written when it ends by itself, for
// "unmount" to pass on.
type Ending struct {
	PID     int       `json:"pid"`
	Started string    `json:"started"`
	Code    exit.Code `json:"code"`
	Message string    `json:"message,omitempty"`
}

func endingFile(cacheDir string) string { return filepath.Join(cacheDir, "ending.json") }

// WriteEnding leaves the ending in the holder's cache directory.
func WriteEnding(h Holder, err error) error {
	e := Ending{PID: h.PID, Started: h.Started, Code: exit.CodeOf(err)}
	if err != nil {
		e.Message = exit.OneLine(err.Error())
	}
	return e.write(h)
}

// BeginEnding leaves the word that the holder ended without one, which WriteEnding
// replaces, on a full disk too.
func BeginEnding(h Holder) error {
	return Ending{PID: h.PID, Started: h.Started, Code: exit.Failed, Message: wordless(h)}.write(h)
}

func wordless(h Holder) string {
	return fmt.Sprintf("process %d ended without a word (killed?)", h.PID)
}

func (e Ending) write(h Holder) error {
	name := endingFile(h.CacheDir)
	err := writeJSON(name, e)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return overwriteJSON(name, e)
	case errors.Is(err, os.ErrNotExist): // somebody has removed the directory
		if err := os.MkdirAll(h.CacheDir, 0o700); err != nil {
			return err
		}
		return writeJSON(name, e)
	}
	return err
}

// ReadEnding returns how the holder's process ended: nil if well, an *exit.Error with
// its code if not. If it left no word, that is an error too.
func ReadEnding(h Holder) error {
	var e Ending
	if err := readJSON(endingFile(h.CacheDir), &e); err != nil || e.PID != h.PID || e.Started != h.Started {
		return exit.New(exit.Failed, "see the log", "%s", wordless(h))
	}
	if e.Code == exit.OK {
		return nil
	}
	remedy := ""
	if e.Message == wordless(h) {
		remedy = "see the log"
	}
	return exit.New(e.Code, remedy, "%s", e.Message)
}

// writeJSON replaces a file with a whole new one.
func writeJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	err = os.WriteFile(tmp, append(text, '\n'), 0o600)
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

// overwriteJSON writes into a file that is there, which takes no space on a full disk.
func overwriteJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(append(text, '\n'), 0)
	return errors.Join(err, file.Truncate(int64(len(text)+1)), file.Close())
}

func readJSON(name string, value any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}
