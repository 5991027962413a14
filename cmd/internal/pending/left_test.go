package pending

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

func TestLeftReadsBack(t *testing.T) {
	dir := t.TempDir()
	l := Left{Mountpoint: "/mnt", CacheDir: dir, Ended: time.Unix(1e9, 0).UTC(), Changes: []control.Item{}}
	for n := range 3 {
		var text bytes.Buffer
		if err := l.Encode(&text); err != nil {
			t.Fatal(err)
		}
		var got Left
		if err := json.Unmarshal(text.Bytes(), &got); err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("%v\n%s\n%+v", err, text.String(), got)
		}
		if lines := bytes.Count(text.Bytes(), []byte("\n")); lines != n+1 {
			t.Errorf("%d lines for %d changes:\n%s", lines, n, text.String())
		}
		l.Add(control.Item{ID: uint64(n), Op: "put", Path: "/a\n\"b\"", Size: 5, Since: time.Unix(5, 0).UTC()})
	}
	if l.Count != 3 || l.Bytes != 15 {
		t.Errorf("%+v", l)
	}
	if err := l.Write(); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadLeft(dir); err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v", got, err)
	}
	if st, err := os.Stat(LeftFile(dir)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	for range 2 { // there is nothing left; once more is fine
		if err := (&Left{CacheDir: dir}).Write(); err != nil {
			t.Error(err)
		}
	}
	if got, err := ReadLeft(dir); err != nil || got.Count != 0 || got.Changes == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%v, %v", files, err)
	}
	l.CacheDir = filepath.Join(dir, "none")
	if err := l.Write(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(LeftFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLeft(dir); err == nil {
		t.Error("half a list was read")
	}
}

func TestNamesAreRemembered(t *testing.T) {
	dir := t.TempDir()
	if got := LoadNames(dir); got == nil || len(got) != 0 {
		t.Errorf("%v", got)
	}
	if err := os.Mkdir(Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, names := range []map[string]string{{"t1": "/a", "t2": "/b"}, {"t2": "/c"}, {"t2": "/c"}} {
		if err := SaveNames(dir, names); err != nil {
			t.Fatal(err)
		}
	}
	if got := LoadNames(dir); !maps.Equal(got, map[string]string{"t1": "/a", "t2": "/c"}) {
		t.Errorf("%v", got)
	}
	for _, text := range []string{"null", "{", "[]"} {
		if err := os.WriteFile(namesFile(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := LoadNames(dir); got == nil || len(got) != 0 {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// leave makes a journal with one new file that was never uploaded.
func leave(t *testing.T, cacheDir, tree string) {
	t.Helper()
	if err := os.MkdirAll(Dir(cacheDir), 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := writeback.Open(Dir(cacheDir), writeback.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := store.Wrap(memory.New(memory.Options{}), writeback.Policy{Name: "/a", Tree: tree})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := b.NewStage(0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.WriteAt([]byte("text"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context(), "/file", stage, writeback.Commit{Cond: remote.Cond{NotExist: true}}); err != nil {
		t.Fatal(err)
	}
	stage.Release()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEndedJournal(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenEnded(dir, "/mnt"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if n, err := Count(dir); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	leave(t, dir, "tree/x")
	if err := SaveNames(dir, map[string]string{"tree/x": "/a"}); err != nil {
		t.Fatal(err)
	}
	if n, err := Count(dir); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	e, err := OpenEnded(dir, "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Count(dir); err == nil {
		t.Error("a journal in use was opened")
	}
	s, err := e.Status(t.Context(), 10)
	if err != nil || s.State != control.StateEnded || s.Mountpoint != "/mnt" || s.Pending != 1 || len(s.Items) != 1 || s.Items[0].Path != "/a/file" || s.Branches[0].Mounted {
		t.Errorf("%+v, %v", s, err)
	}
	out := t.TempDir()
	err = e.Export(t.Context(), out, []uint64{s.Items[0].ID}, func(x control.Exported) error {
		if x.Error != "" || x.File != filepath.Join(out, "a/file") {
			t.Errorf("%+v", x)
		}
		return nil
	})
	if text, readErr := os.ReadFile(filepath.Join(out, "a/file")); err != nil || readErr != nil || string(text) != "text" {
		t.Errorf("%q, %v, %v", text, err, readErr)
	}
	if err := errors.Join(e.Drop(t.Context(), s.Items[0].ID), e.Close()); err != nil {
		t.Error(err)
	}
	if n, err := Count(dir); n != 0 || err != nil {
		t.Errorf("after the drop: %d, %v", n, err)
	}
}

// TestEndedJournalOfUnknownPlace has no name to go by but the tree's.
func TestEndedJournalOfUnknownPlace(t *testing.T) {
	dir := t.TempDir()
	leave(t, dir, "davs://h/x as me")
	e, err := OpenEnded(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := e.Status(t.Context(), 1)
	if want := "/davs:__h_x as me/file"; err != nil || s.Items[0].Path != want {
		t.Errorf("%+v, %v", s.Items, err)
	}
	if err := e.Retry(t.Context(), 999); remote.KindOf(err) != remote.NotExist {
		t.Error(fmt.Sprint(err))
	}
}
