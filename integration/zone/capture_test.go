package zone

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// recordings of a real 5.0.2 server, in the order in which they were made.
var recordings = []string{
	"setup", "create-write-close", "create-exists", "create-with-checksum", "stat-object", "stat-collection",
	"stat-missing", "open-missing", "open-read-close", "lseek-read", "put-inline", "put-inline-exists", "get-inline",
	"fd-info-and-replica-close", "genquery-list-objects", "genquery-list-collections", "genquery-paging",
	"genquery-no-rows", "genquery2-list", "mkdir-existing", "rmdir-not-empty", "avu-add-list", "locked-while-writing",
	"touch", "checksum", "replica-truncate", "rename-plain", "rename-onto-existing-op11", "rename-onto-existing-op0-force",
	"permission-denied", "names-odd", "unlink",
}

// recorded is a message of a recording.
type recorded struct {
	client bool
	head   string
	msg    string
	bs     []byte
}

func readRecording(t *testing.T, name string) []recorded {
	t.Helper()
	data, err := os.ReadFile("../../remote/irods/wire/testdata/irods-5.0.2/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		line = strings.ReplaceAll(line, `\n`, "\n")
		switch {
		case strings.HasPrefix(line, "C> "), strings.HasPrefix(line, "S> "):
			all = append(all, recorded{client: line[0] == 'C', head: line[3:]})
		case strings.HasPrefix(line, "   msg: "):
			all[len(all)-1].msg = line[8:]
		case strings.HasPrefix(line, "   bs:  "):
			_, digits, _ := strings.Cut(line[8:], " bytes ")
			all[len(all)-1].bs, _ = hex.DecodeString(digits)
		}
	}
	return all
}

// field returns what stands in an element of a recorded text.
func field(text, name string) string {
	_, rest, _ := strings.Cut(text, "<"+name+">")
	value, _, _ := strings.Cut(rest, "</"+name+">")
	return value
}

// unpack returns the message of a recorded text.
func unpack(t *testing.T, text string) wire.Message {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(text, "<"), ">")
	kinds := map[string]wire.Message{
		"DataObjInp_PI": &wire.DataObjInp{}, "OpenedDataObjInp_PI": &wire.OpenedDataObjInp{}, "CollInpNew_PI": &wire.CollInp{},
		"GenQueryInp_PI": &wire.GenQueryInp{}, "GenQueryOut_PI": &wire.GenQueryOut{}, "RodsObjStat_PI": &wire.RodsObjStat{},
		"STR_PI": &wire.STR{}, "BinBytesBuf_PI": &wire.BinBytesBuf{}, "DataObjCopyInp_PI": &wire.DataObjCopyInp{},
		"ModAVUMetadataInp_PI": &wire.ModAVUMetadataInp{}, "Genquery2Input_PI": &wire.Genquery2Inp{},
		"fileLseekOut_PI": &wire.FileLseekOut{}, "PortalOprOut_PI": &wire.PortalOprOut{}, "CollOprStat_PI": &wire.CollOprStat{},
	}
	m, ok := kinds[name]
	if !ok {
		t.Fatalf("no message for %q", name)
	}
	if err := wire.Unpack([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRecordings sends to the zone what was once sent to a real server, and compares
// the answers.
func TestRecordings(t *testing.T) {
	z := start(t, nil)
	first := dial(t, z, "rods", "rods")
	first.mkdir(z.Home("rods")+"/capture", 0) // setup removes it
	for _, name := range recordings {
		t.Run(name, func(t *testing.T) { replay(t, z, first, readRecording(t, name)) })
	}
}

// replay sends one recording. A second connection in it replaces the first one until
// it says good-bye.
func replay(t *testing.T, z *Zone, first *client, all []recorded) {
	now := &client{t, first.Conn}
	for i := 0; i < len(all); i++ {
		r := all[i]
		switch field(r.head, "type") {
		case "RODS_CONNECT":
			user := field(r.msg, "clientUser")
			now = dial(t, z, user, map[string]string{"rods": "rods", "alice": "apass"}[user])
			i += 5 // the answer and authentication
		case "RODS_DISCONNECT":
			if now.Conn == first.Conn {
				return
			}
			_ = now.Close()
			now = &client{t, first.Conn}
		case "RODS_API_REQ":
			i++
			exchange(t, now, r, all[i])
		}
	}
}

// exchange makes a recorded call and compares the reply with the recorded one.
func exchange(t *testing.T, c *client, request, reply recorded) {
	t.Helper()
	var api, status int
	if _, err := fmt.Sscan(field(request.head, "intInfo"), &api); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(field(reply.head, "intInfo"), &status); err != nil {
		t.Fatal(err)
	}
	call := &wire.Call{API: api, In: unpack(t, request.msg), Data: request.bs, Into: make([]byte, 4096)}
	var want wire.Message
	if reply.msg != "" {
		want, call.Out = unpack(t, reply.msg), unpack(t, reply.msg)
	}
	got, err := c.Call(t.Context(), call)
	if got.Status != status || (err != nil && wire.CodeOf(err) == 0) || got.HasOut != (want != nil) || got.N != len(reply.bs) ||
		!slices.Equal(call.Into[:got.N], reply.bs) {
		t.Fatalf("%s: got %+v, %v; recorded status %d, %d bytes, %.100s", wire.APIName(api), got, err, status, len(reply.bs), reply.msg)
	}
	if want == nil {
		return
	}
	if got, want := comparable(call.Out), comparable(want); got != want {
		t.Errorf("%s: got\n%s\nrecorded\n%s", wire.APIName(api), got, want)
	}
}

// comparable prints a message without what differs from run to run.
func comparable(m wire.Message) string {
	switch m := m.(type) {
	case *wire.RodsObjStat:
		m.ID, m.CreateTime, m.ModifyTime = "", "", ""
	case *wire.CollOprStat:
		m.Files = 0
	case *wire.GenQueryOut:
		return comparableRows(m)
	case *wire.BinBytesBuf:
		var info struct {
			Token  string `json:"replica_token"`
			Object struct {
				Path   string `json:"object_path"`
				Hier   string `json:"resource_hierarchy"`
				Status int    `json:"replica_status"`
			} `json:"data_object_info"`
		}
		err := m.JSON(&info)
		return fmt.Sprint(len(info.Token), info.Object, err)
	case *wire.STR:
		var rows [][]string
		if m.JSON(&rows) != nil {
			return m.Text
		}
		for _, r := range rows {
			r[2] = ""
		}
		slices.SortFunc(rows, slices.Compare)
		return fmt.Sprintf("%q", rows)
	}
	return fmt.Sprintf("%+v", m)
}

func comparableRows(m *wire.GenQueryOut) string {
	text := fmt.Sprintln(m.Rows, m.Attrs, m.Continue, m.Total)
	for _, r := range m.Results {
		switch r.Column {
		case wire.ColDataID, wire.ColCollID, wire.ColDataCreateTime, wire.ColDataModifyTime, wire.ColCollCreateTime, wire.ColCollModifyTime:
			text += fmt.Sprintln(r.Column, len(r.Values))
		default:
			slices.Sort(r.Values)
			text += fmt.Sprintf("%d %d %q\n", r.Column, r.Width, r.Values)
		}
	}
	return text
}
