package irods

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var someTime = time.Unix(1763770000, 0)

func TestScrambleReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[^\x00]{1,50}`).Filter(func(s string) bool { return len(s) <= 50 && !strings.Contains(s, temporary) }).Draw(t, "password")
		uid, pattern := rapid.IntRange(0, 1<<31-1).Draw(t, "uid"), rapid.IntRange(0, 15).Draw(t, "pattern")
		written := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 0)
		content, err := Scramble(password, uid, written, pattern)
		if err != nil {
			t.Fatal(err)
		}
		modified := written.Add(time.Duration(rapid.IntRange(-19, 19).Draw(t, "delay")) * time.Second)
		if got, err := Unscramble(content, uid, modified); err != nil || got != password {
			t.Fatalf("%q became %q and that %q, %v", password, content, got, err)
		}
	})
}

// TestUnscrambleKnown reads what the Python client has made.
func TestUnscrambleKnown(t *testing.T) {
	for _, c := range []struct {
		content  string
		uid      int
		modified time.Time
		want     string
	}{
		{`.qpz"ler`, 0, time.Unix(0, 0), "a"},
		{".jrs*secxw(x+)\x00and what an earlier file has left", 1000, someTime, "Secret!"},
	} {
		if got, err := Unscramble([]byte(c.content), c.uid, c.modified); err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.content, got, err, c.want)
		}
	}
}

func TestUnscrambleRefuses(t *testing.T) {
	fine, err := Scramble("secret", 1000, someTime, 3)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name     string
		content  string
		uid      int
		modified time.Time
	}{
		{"another user", string(fine), 1001, someTime},
		{"a copy", string(fine), 1000, someTime.Add(time.Hour)},
		{"just too late", string(fine), 1000, someTime.Add(20 * time.Second)},
		{"plain password", "secret-password", 1000, someTime},
		{"empty", "", 1000, someTime},
		{"only a blank", " ", 1000, someTime},
		{"head only", string(fine[:keyAt+1]), 1000, someTime},
		{"cut within the head", string(fine[:4]), 1000, someTime},
		{"another mark", "," + string(fine[1:]), 1000, someTime},
		{"another key", string(fine[:keyAt]) + "z" + string(fine[keyAt+1:]), 1000, someTime},
		{"binary", strings.Repeat("\xff\x01", 20), 1000, someTime},
	}
	for _, c := range cases {
		if got, err := Unscramble([]byte(c.content), c.uid, c.modified); !errors.Is(err, ErrScramble) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	if _, err := Scramble(long("x", 51), 0, someTime, 0); !errors.Is(err, ErrScrambleLength) {
		t.Errorf("long password: %v", err)
	}
	for _, bad := range []string{"", "a\x00b"} {
		if _, err := Scramble(bad, 0, someTime, 0); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestUnscrambleLength(t *testing.T) {
	s := scrambler{pattern: patterns[0], user: userShift(7)}
	content := "." + string(s.move(append([]byte{checkCharacter(0)}, timeLetters(someTime)...), 1)) + string(rune(firstKey))
	content += string(s.move([]byte(long("p", 51)), 1))
	if _, err := Unscramble([]byte(content), 7, someTime); !errors.Is(err, ErrScrambleLength) {
		t.Error(err)
	}
}

// TestTemporaryPassword drops the mark that iCommands put behind some passwords.
func TestTemporaryPassword(t *testing.T) {
	content, err := Scramble("pw"+temporary, 5, someTime, 9)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unscramble(content, 5, someTime); err != nil || got != "pw" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAgainstPythonClient exchanges files with an independent implementation.
func TestAgainstPythonClient(t *testing.T) {
	type exchange struct {
		UID  int      `json:"uid"`
		Ours []string `json:"ours"`
	}
	const password = "Zaq1!\"#$%&'()*+,-./ ~{}@09"
	var in []exchange
	for _, uid := range []int{0, 1000, 4242, 65534, 1 << 20} {
		e := exchange{UID: uid}
		for pattern := range len(patterns) {
			content, err := Scramble(password, uid, someTime, pattern)
			if err != nil {
				t.Fatal(err)
			}
			e.Ours = append(e.Ours, string(content))
		}
		in = append(in, e)
	}
	theirs := python(t, in, password)
	for i, e := range in {
		if got, err := Unscramble([]byte(theirs[i].Made), e.UID, someTime); err != nil || got != password {
			t.Errorf("uid %d: Python made %q, we read %q, %v", e.UID, theirs[i].Made, got, err)
		}
		for pattern, got := range theirs[i].Read {
			if got != password || len(theirs[i].Read) != len(patterns) {
				t.Errorf("uid %d: we made %q, Python read %q", e.UID, e.Ours[pattern], got)
			}
		}
	}
}

const program = `
import json, sys
from irods.password_obfuscation import encode, decode
password, at = sys.argv[1], int(sys.argv[2])
json.dump([{"made": encode(password, e["uid"], at), "read": [decode(s, e["uid"]) for s in e["ours"]]}
           for e in json.load(sys.stdin)], sys.stdout)
`

// answer is what the Python client made, and read of what we made.
type answer struct {
	Made string   `json:"made"`
	Read []string `json:"read"`
}

func python(t *testing.T, in any, password string) (theirs []answer) {
	t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", program, password, strconv.FormatInt(someTime.Unix(), 10))
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v (is python3-irodsclient installed?)", err)
	}
	if err := json.Unmarshal(out, &theirs); err != nil || len(theirs) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return theirs
}

// FuzzUnscramble looks for panics.
func FuzzUnscramble(f *testing.F) {
	f.Add([]byte(".abcdeef"), 0, int64(0))
	f.Fuzz(func(t *testing.T, content []byte, uid int, at int64) {
		got, err := Unscramble(content, uid, time.Unix(at, 0))
		if (err == nil) != (got != "") || len(got) > 50 {
			t.Errorf("%q, %v", got, err)
		}
	})
}
