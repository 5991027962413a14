package progress

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/harness"
)

var half = control.Progress{Pending: 12, Bytes: 30 << 20, Sent: 10 << 20, Rate: 2 << 20, Parked: 1, Held: []string{"/a:\nfull"}}

func TestMeterOnATerminal(t *testing.T) {
	for columns, want := range map[uint16]string{
		200: "\r12 changes (20.0 MiB) to upload, 2.0 MiB/s, 10s left, 1 parked, /a: full\x1b[K\r\x1b[K#",
		40:  "\r12 changes (20.0 MiB) to upload, 2.0 Mi\x1b[K\r\x1b[K#",
	} {
		master, slave := harness.Terminal(t, columns)
		m := New(slave)
		m.Clear() // nothing is shown yet
		m.Show(half)
		m.Show(control.Progress{})
		m.Clear()
		m.Clear()
		if _, err := slave.WriteString("#"); err != nil {
			t.Fatal(err)
		}
		var shown strings.Builder
		for buf := make([]byte, 1024); !strings.HasSuffix(shown.String(), "#"); {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			shown.Write(buf[:n])
		}
		if shown.String() != want {
			t.Errorf("%d columns: %q, want %q", columns, shown.String(), want)
		}
	}
}

func TestMeterElsewhere(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	for _, m := range []*Meter{New(file), New(&buffer)} {
		m.Show(half)
		m.Clear()
	}
	st, err := file.Stat()
	if err != nil || st.Size() != 0 || buffer.Len() != 0 || file.Close() != nil {
		t.Errorf("%v, %q, %v", st, buffer.String(), err)
	}
}
