package irods

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// The scramble of iCommands' password file .irodsA keeps a password from being read at
// a glance and from being copied; it is no encryption. Facts are of lib/core/src/obf.cpp
// of the server's source (versions 3 to 5):
//
//	.HHHHHKPPPP...\0
//
// H are five characters that tell whether the file fits: a check character and four
// letters with the low 16 bits of the file's time. K chooses one of sixteen patterns.
// P is the password. Each character of H and P that is on a wheel of 77 is moved along
// it by five bits of the pattern and some bits of the user's number. The position in
// the pattern goes on from H to P.

// wheel are the characters that are moved, in their order.
const wheel = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!\"#$%&'()*+,-./"

// patterns are chosen by K-'e'.
var patterns = [16]uint32{
	0xd768b678, 0xedfdaf56, 0x2420231b, 0x987098d8, 0xc1bdfeee, 0xf572341f, 0x478def3a, 0xa830d343,
	0x774dfa2a, 0x6720731e, 0x346fa320, 0x6ffdf43a, 0x7723a320, 0xdf67d02e, 0x86ad240a, 0xe76d342e,
}

const (
	firstKey  = 'e'
	headLen   = 5
	keyAt     = 1 + headLen // of K
	clockSkew = 20          // seconds that the file's time may be off
	// temporary is appended to passwords that iCommands would remove by themselves.
	temporary = "%TEMPORARY_PW%"
)

// Errors of Unscramble.
var (
	// ErrScramble: the content is garbage, or of another user's file, or of a file of
	// another time: a copy.
	ErrScramble = errors.New("is not for this user, or was copied or changed")
	// ErrScrambleLength: the password is longer than servers look at.
	ErrScrambleLength = fmt.Errorf("holds a password of more than %d bytes", wire.MaxPassword)
)

// Unscramble returns the password in the content of a .irodsA file. uid is the user's
// number, modified the file's time of modification. On ErrScramble and
// ErrScrambleLength the user should run iinit again.
func Unscramble(content []byte, uid int, modified time.Time) (string, error) {
	content, _, _ = bytes.Cut(content, []byte{0})
	if len(content) <= keyAt || content[0] != '.' {
		return "", ErrScramble
	}
	key := int(content[keyAt]) - firstKey
	if key < 0 || key >= len(patterns) {
		return "", ErrScramble
	}
	s := scrambler{pattern: patterns[key], user: userShift(uid)}
	head := s.move(content[1:keyAt], -1)
	if head[0] != checkCharacter(key) || !sameTime(head[1:], modified) {
		return "", ErrScramble
	}
	password, _, _ := bytes.Cut(s.move(content[keyAt+1:], -1), []byte(temporary))
	switch {
	case len(password) == 0:
		return "", ErrScramble
	case len(password) > wire.MaxPassword:
		return "", ErrScrambleLength
	}
	return string(password), nil
}

// Scramble is the reverse of Unscramble. pattern chooses one of the sixteen forms of
// the result. The file must get the time modified, or one at most 19 seconds away.
func Scramble(password string, uid int, modified time.Time, pattern int) ([]byte, error) {
	switch {
	case len(password) > wire.MaxPassword:
		return nil, ErrScrambleLength
	case password == "" || bytes.IndexByte([]byte(password), 0) >= 0:
		return nil, errors.New("is empty or holds a NUL byte")
	}
	key := pattern & (len(patterns) - 1)
	s := scrambler{pattern: patterns[key], user: userShift(uid)}
	out := append([]byte{'.'}, s.move(append([]byte{checkCharacter(key)}, timeLetters(modified)...), 1)...)
	out = append(out, byte(firstKey+key))
	out = append(out, s.move([]byte(password), 1)...)
	return append(out, 0), nil
}

// scrambler moves characters along the wheel. at is the position in the pattern.
type scrambler struct {
	pattern uint32
	user    int
	at      int
}

// move returns text with each character moved, forth (1) or back (-1).
func (s *scrambler) move(text []byte, direction int) []byte {
	out := make([]byte, len(text))
	for i, c := range text {
		shift := int(s.pattern>>s.at&0x1f) + s.user
		if s.at += 3; s.at > 28 {
			s.at = 0
		}
		out[i] = c
		if place := bytes.IndexByte([]byte(wheel), c); place >= 0 {
			place = (place + direction*shift) % len(wheel)
			out[i] = wheel[(place+len(wheel))%len(wheel)]
		}
	}
	return out
}

// userShift are the bits of the user's number that count.
func userShift(uid int) int { return uid & 0xf5f }

// checkCharacter belongs to a key.
func checkCharacter(key int) byte { return byte('S' - (key&7)*2) }

// timeShifts are the places of the four letters' bits in the time.
var timeShifts = [4]uint{4, 0, 12, 8}

func timeLetters(t time.Time) []byte {
	letters := make([]byte, len(timeShifts))
	for i, shift := range timeShifts {
		letters[i] = 'a' + byte(t.Unix()>>shift&0xf)
	}
	return letters
}

// sameTime tells whether the letters name about that time. Only 16 bits are known.
func sameTime(letters []byte, t time.Time) bool {
	var stored int64
	for i, shift := range timeShifts {
		if letters[i] < 'a' || letters[i] > 'p' {
			return false
		}
		stored |= int64(letters[i]-'a') << shift
	}
	apart := (t.Unix() - stored) & 0xffff
	return min(apart, 1<<16-apart) < clockSkew
}
