package cache

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

const metaCrashDir = "CACHE_TEST_META_CRASH_DIR"

// TestMetaCrashChild is the process that TestMetaKill kills. It forgets a directory,
// sets a mark that says so, and saves others, without an end.
func TestMetaCrashChild(t *testing.T) {
	dir := os.Getenv(metaCrashDir)
	if dir == "" {
		return // only a helper of TestMetaKill
	}
	s := openStore(t, dir, testOptions())
	tr := s.Tree("b")
	first, _ := strconv.Atoi(os.Getenv(metaCrashDir + "_FIRST"))
	dice := rand.New(rand.NewPCG(uint64(first), 1))
	for n := first; ; n++ {
		d := fmt.Sprint("/", dice.IntN(5), "/", dice.IntN(5))
		if n%7 == 0 {
			tr.ForgetTree(d[:2])
		} else {
			tr.Forget(d)
		}
		tr.SetMark(d, strconv.Itoa(n))
		if n%7 != 0 || n%3 == 0 {
			save(tr, listing(d, dice.IntN(200), n))
		}
		if n == first {
			fmt.Println("begun")
		}
	}
}

// TestMetaKill kills a process that saves and forgets, and opens what it leaves. Every
// listing is whole, none claims to be of a known age, and none is from before the mark
// that says it was forgotten.
func TestMetaKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	found := 0
	for round := range 12 {
		metaCrash(t, dir, (round+1)*1_000_000, time.Duration(5+dice.IntN(150))*time.Millisecond)
		s := openStore(t, dir, testOptions())
		tr := s.Tree("b")
		for i := range 25 {
			d := fmt.Sprint("/", i/5, "/", i%5)
			l, ok := tr.Load(d)
			if !ok {
				continue
			}
			found++
			n, err := strconv.Atoi(strings.TrimPrefix(l.Self, "self"))
			mark, _ := strconv.Atoi(tr.Mark(d))
			if err != nil || n < mark {
				t.Errorf("%s is of %d, but was forgotten at %d (%v)", d, n, mark, err)
			}
			want := listing(d, len(l.Entries), n)
			if len(l.Entries) > 0 && !reflect.DeepEqual(l.Entries, want.Entries) || !l.At.IsZero() {
				t.Errorf("%s is not as it was saved, or claims to be from %v", d, l.At)
			}
		}
		if round%3 == 0 {
			closeStore(t, s)
		}
		_ = s.Close()
	}
	if found == 0 {
		t.Error("nothing is ever found after a kill")
	}
}

func metaCrash(t *testing.T, dir string, first int, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMetaCrashChild$")
	cmd.Env = append(os.Environ(), metaCrashDir+"="+dir, metaCrashDir+"_FIRST="+strconv.Itoa(first))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "begun" {
		t.Errorf("the child says %q", lines.Text())
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	_ = cmd.Wait() // it was killed
}

// TestMetaFullDisk takes the space away: what is loaded stays right, and it goes on when
// there is space again.
func TestMetaFullDisk(t *testing.T) {
	point := tmpfs(t, 64<<20)
	dir := filepath.Join(point, "c")
	s := openStore(t, dir, testOptions())
	tr := s.Tree("b")
	save(tr, listing("/a", 50, 1))
	release := hog(t, point)
	saved := map[string]int{"/a": 1}
	for n := range 3000 {
		d := fmt.Sprint("/", n%400)
		save(tr, listing(d, 60, n))
		saved[d] = n
		if n%50 == 0 {
			tr.Forget(d)
			delete(saved, d)
		}
		if l, ok := tr.Load(d); ok && l.Self != fmt.Sprint("self", saved[d]) {
			t.Errorf("%s is %s, saved was %d", d, l.Self, saved[d])
		}
	}
	if st := s.Stats().Meta; !st.On {
		t.Errorf("a full disk ended it: %+v", st)
	}
	release()
	for n := 0; ; n++ {
		save(tr, listing("/again", 10, n))
		if l, ok := tr.Load("/again"); ok && !s.meta.queues() && l.Self != "" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	defer closeStore(t, s)
	if _, ok := s.Tree("b").Load("/again"); !ok {
		t.Error("nothing is remembered after the disk was full")
	}
	for i := range 400 {
		d := fmt.Sprint("/", i)
		if l, ok := s.Tree("b").Load(d); ok && l.Self != fmt.Sprint("self", saved[d]) {
			t.Errorf("%s is %s, saved was %d", d, l.Self, saved[d])
		}
	}
}

func (l *metaLog) queues() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

// TestMetaFails takes the files away: nothing is remembered, and nobody else notices.
func TestMetaFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	log := &lines{}
	opts := testOptions()
	opts.Logger = log.logger()
	s := openStore(t, dir, opts)
	tr := s.Tree("b")
	save(tr, listing("/a", 5, 1))
	for s.meta.queues() {
		time.Sleep(time.Millisecond)
	}
	s.meta.mu.Lock()
	for _, file := range s.meta.files {
		_ = file.Close() // as good as a failing disk
	}
	s.meta.mu.Unlock()
	if _, ok := tr.Load("/a"); ok {
		t.Error("a listing came from a closed file")
	}
	save(tr, listing("/b", 5, 1))
	for s.Stats().Meta.On || log.count("WARN") == 0 {
		time.Sleep(time.Millisecond)
	}
	save(tr, listing("/c", 5, 1))
	tr.ForgetTree("/")
	wantUnknown(t, tr, "/a", "/b", "/c")
	if n := log.count("WARN"); n != 1 || s.Stats().Meta.Reason == "" {
		t.Errorf("%d lines in the log, want 1:\n%s", n, log)
	}
	if k := key("/x", 0); !put(t, s, k) || !checkGet(t, s, k, 0, 1) {
		t.Error("blocks do not work without metadata")
	}
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	defer closeStore(t, s)
	wantUnknown(t, s.Tree("b"), "/a", "/b", "/c")
}
