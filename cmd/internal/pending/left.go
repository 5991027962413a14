package pending

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/fs/control"
)

// LeftName is the file in a cache directory that lists what a mount has not stored when
// it ended. It is there only as long as there is something.
const LeftName = "leftovers.json"

// LeftFile returns the list's name in a cache directory.
func LeftFile(cacheDir string) string { return filepath.Join(cacheDir, LeftName) }

// Left is what a mount has not stored when it ended.
type Left struct {
	Mountpoint string         `json:"mountpoint"`
	CacheDir   string         `json:"cache_dir"`
	Ended      time.Time      `json:"ended,omitzero"`
	Count      int            `json:"count"`
	Bytes      int64          `json:"bytes"`
	Changes    []control.Item `json:"changes"`
}

// Number writes how many changes there are.
func Number(n int) string {
	if n == 1 {
		return "1 change"
	}
	return strconv.Itoa(n) + " changes"
}

// Add adds a change.
func (l *Left) Add(i control.Item) {
	l.Changes = append(l.Changes, i)
	l.Count++
	l.Bytes += i.Size
}

// Write replaces the list in the cache directory, or removes it if there is nothing in it.
func (l *Left) Write() error {
	name := LeftFile(l.CacheDir)
	if l.Count == 0 {
		if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	err := l.writeTo(tmp)
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		_ = os.Remove(tmp) // it may not have been made
	}
	return err
}

func (l *Left) writeTo(name string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	return errors.Join(l.Encode(out), out.Flush(), file.Close())
}

// Encode writes the list as JSON, a change on each line.
func (l *Left) Encode(w io.Writer) error {
	head := *l
	head.Changes = []control.Item{}
	text, err := json.Marshal(&head)
	if err != nil {
		return err
	}
	if _, err := w.Write(text[:len(text)-len("]}")]); err != nil {
		return err
	}
	for i := range l.Changes {
		line, err := json.Marshal(&l.Changes[i])
		if err != nil {
			return err
		}
		separator := ",\n"
		if i == 0 {
			separator = "\n"
		}
		if _, err := io.WriteString(w, separator+string(line)); err != nil {
			return err
		}
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}

// ReadLeft reads the list of a cache directory. If there is none it is empty.
func ReadLeft(cacheDir string) (Left, error) {
	var l Left
	text, err := os.ReadFile(LeftFile(cacheDir))
	if errors.Is(err, os.ErrNotExist) {
		return Left{CacheDir: cacheDir, Changes: []control.Item{}}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	return l, err
}
