package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// part is one message of a recorded conversation with iRODS 5.0.2.
type part struct {
	client   bool
	header   []byte
	msg, err []byte
	bs       []byte // nil if the recording has only its length
	bsLen    int
}

// readCapture parses a recording: lines "C> header" or "S> header", then "msg:",
// "err:" and "bs:" lines. A line feed inside is shown as backslash n.
func readCapture(t *testing.T, path string) []part {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var parts []part
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		kind, rest, ok := strings.Cut(line, " ")
		if kind == "C>" || kind == "S>" {
			parts = append(parts, part{client: kind == "C>", header: unquote(rest)})
			continue
		}
		name, text, cut := strings.Cut(strings.TrimLeft(line, " "), ": ")
		if !ok || !cut || len(parts) == 0 {
			t.Fatalf("%s: unknown line %.60q", path, line)
		}
		p := &parts[len(parts)-1]
		switch name {
		case "msg":
			p.msg = unquote(text)
		case "err":
			p.err = unquote(text)
		case "bs":
			var digits string
			if _, err := fmt.Sscanf(text, "%d bytes %s", &p.bsLen, &digits); err == nil {
				p.bs, _ = hex.DecodeString(digits)
			}
		default:
			t.Fatalf("%s: unknown part %q", path, name)
		}
	}
	return parts
}

func unquote(s string) []byte { return []byte(strings.ReplaceAll(s, `\n`, "\n")) }

func captures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/irods-5.0.2/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	return files
}

// allMessages returns an empty message of each type.
func allMessages() []Message {
	return []Message{
		&KeyValPair{}, &StartupPack{}, &Version{}, &csNeg{}, &RError{}, &ErrMsg{}, &MiscSvrInfo{},
		&BinBytesBuf{}, &BytesBuf{}, &STR{}, &INT{}, &DataObjInp{}, &OpenedDataObjInp{}, &FileLseekOut{},
		&RodsObjStat{}, &CollInp{}, &CollOprStat{}, &DataObjCopyInp{}, &PortalOprOut{}, &PortList{},
		&StructFileExtAndRegInp{}, &BulkOprInp{}, &ModAVUMetadataInp{}, &ModAccessControlInp{},
		&TicketAdminInp{}, &GeneralAdminInp{}, &UserAdminInp{}, &EndTransactionInp{}, &AuthRequestOut{},
		&AuthResponseInp{}, &AuthPlugReqInp{}, &AuthPlugReqOut{}, &PamAuthRequestInp{}, &PamAuthRequestOut{},
		&GenQueryInp{}, &selects{}, &wheres{}, &GenQueryOut{}, &Genquery2Inp{}, &header{},
	}
}

// messageFor returns an empty message for packed data.
func messageFor(t *testing.T, packed []byte) Message {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(string(packed), "<"), ">")
	for _, m := range allMessages() {
		if m.pi() == name {
			return m
		}
	}
	t.Fatalf("no message for %q", name)
	return nil
}

// quotes undoes the references for quotes, which the recorded client did not use in
// all messages.
var quotes = strings.NewReplacer("&apos;", "'", "&quot;", `"`)

// checkPacked unpacks and packs again, and wants the same bytes.
func checkPacked(t *testing.T, packed []byte, lines bool) Message {
	t.Helper()
	m := messageFor(t, packed)
	if err := Unpack(packed, m); err != nil {
		t.Fatalf("%v in %.200q", err, packed)
	}
	got, want := string(appendMessage(nil, m, lines)), string(packed)
	if !lines {
		got, want = quotes.Replace(got), quotes.Replace(want)
	}
	if got != want {
		t.Fatalf("packed again\n%q\nrecorded\n%q", got, packed)
	}
	return m
}

// TestCaptures unpacks every recorded message of both ends, checks the lengths in the
// header and packs it again to the very same bytes.
func TestCaptures(t *testing.T) {
	seen := map[string]int{}
	for _, file := range captures(t) {
		for i, p := range readCapture(t, file) {
			var h header
			if err := Unpack(p.header, &h); err != nil {
				t.Fatalf("%s, %d: %v", file, i, err)
			}
			checkPacked(t, p.header, !p.client)
			if h.msgLen != len(p.msg) || h.errLen != len(p.err) || h.bsLen != p.bsLen || (p.bs != nil && len(p.bs) != p.bsLen) {
				t.Fatalf("%s, %d: header %+v with %d, %d, %d bytes", file, i, h, len(p.msg), len(p.err), p.bsLen)
			}
			if p.msg != nil {
				seen[checkPacked(t, p.msg, !p.client).pi()]++
			}
			if p.err != nil {
				seen[checkPacked(t, p.err, !p.client).pi()]++
			}
		}
	}
	if len(seen) < 18 {
		t.Errorf("only %d kinds of messages seen: %v", len(seen), seen)
	}
}

// replies returns the server's messages of a recording, unpacked.
func replies(t *testing.T, name string) []Message {
	t.Helper()
	var all []Message
	for _, p := range readCapture(t, "testdata/irods-5.0.2/"+name+".txt") {
		if !p.client && p.msg != nil {
			all = append(all, checkPacked(t, p.msg, true))
		}
	}
	return all
}

// TestCaptureNames reads the listing with odd names.
func TestCaptureNames(t *testing.T) {
	all := replies(t, "names-odd")
	out := all[len(all)-1].(*GenQueryOut)
	want := []string{"\x01ctl", "a b", "amp&lt<gt>", `back\slash`, "it's", "nl\nx", "per%cent", `q"uote`, "tab\tx", "ä😀"}
	if out.Rows != len(want) || len(out.Results) != 2 {
		t.Fatalf("%d rows of %d columns", out.Rows, len(out.Results))
	}
	got := out.Results[0].Values
	for i, name := range want {
		if strings.Trim(got[i], "\x01") != strings.Trim(name, "\x01") {
			t.Errorf("name %d is %q, want %q", i, got[i], name)
		}
		if size := out.Value(ColDataSize, i); size != "1" {
			t.Errorf("size of %q is %s", name, size)
		}
	}
	if !strings.Contains(got[0], "\x01") {
		t.Errorf("the control character is lost: %q", got[0])
	}
}

// TestCaptureValues looks into some recorded answers.
func TestCaptureValues(t *testing.T) {
	stat := replies(t, "stat-object")[0].(*RodsObjStat)
	if stat.Size != 13 || stat.Type != TypeObject || stat.Mode != 420 || stat.OwnerName != "rods" || stat.ModifyTime != "01795294397" {
		t.Errorf("stat %+v", stat)
	}
	if stat := replies(t, "stat-collection")[0].(*RodsObjStat); stat.Type != TypeCollection {
		t.Errorf("stat %+v", stat)
	}
	var info struct {
		Token string `json:"replica_token"`
	}
	if err := replies(t, "fd-info-and-replica-close")[0].(*BinBytesBuf).JSON(&info); err != nil || len(info.Token) != 36 {
		t.Errorf("token %q, %v", info.Token, err)
	}
	var rows [][]string
	if err := replies(t, "genquery2-list")[0].(*STR).JSON(&rows); err != nil || len(rows) != 4 || rows[0][0] != "b.bin" {
		t.Errorf("rows %v, %v", rows, err)
	}
}

// TestCaptureDigests recomputes the recorded answers to challenges.
func TestCaptureDigests(t *testing.T) {
	for _, name := range []string{"startup-auth-plugin", "startup-auth-legacy"} {
		var challenge string
		var digest []byte
		for _, p := range readCapture(t, "testdata/irods-5.0.2/"+name+".txt") {
			if p.msg == nil {
				continue
			}
			switch m := checkPacked(t, p.msg, !p.client).(type) {
			case *BinBytesBuf:
				var step struct {
					Result string `json:"request_result"`
					Digest []byte `json:"digest"`
				}
				if err := m.JSON(&step); err != nil {
					t.Fatal(err)
				}
				challenge, digest = step.Result, step.Digest
			case *AuthRequestOut:
				challenge = string(m.Challenge)
			case *AuthResponseInp:
				digest = m.Response
			}
		}
		if len(challenge) != 64 || !bytes.Equal(digest, ChallengeResponse(challenge, "rods")) {
			t.Errorf("%s: digest %x of %q is not that of the test account", name, digest, challenge)
		}
	}
}
