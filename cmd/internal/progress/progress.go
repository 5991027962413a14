// Package progress shows on a terminal how uploads go.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/fs/control"
)

// Meter is one line of a terminal that is written anew. It is for one goroutine.
type Meter struct {
	out   io.Writer // nil: nothing is shown
	width int
	shown bool
}

// New returns a meter for out, which shows nothing unless that is a terminal.
func New(out io.Writer) *Meter {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &Meter{}
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	return &Meter{out: out, width: width}
}

// Show shows how much is left, if anything is.
func (m *Meter) Show(p control.Progress) {
	if p.Pending == 0 && p.Parked == 0 {
		m.Clear()
		return
	}
	if m.out == nil {
		return
	}
	text := []rune(exit.OneLine(Text(&p)))
	if len(text) >= m.width {
		text = text[:m.width-1]
	}
	// From the beginning of the line, and nothing behind it (ECMA-48).
	_, _ = fmt.Fprintf(m.out, "\r%s\x1b[K", string(text))
	m.shown = true
}

// Clear takes the line away.
func (m *Meter) Clear() {
	if m.out != nil && m.shown {
		_, _ = io.WriteString(m.out, "\r\x1b[K")
		m.shown = false
	}
}

// Text tells in one line how much is left.
func Text(p *control.Progress) string {
	if p.Pending == 0 && p.Parked == 0 {
		return "nothing is left to upload"
	}
	parts := []string{fmt.Sprintf("%s (%s) to upload", pending.Number(p.Pending), doctor.Bytes(max(p.Bytes-p.Sent, 0)))}
	if p.Rate >= 1 {
		parts = append(parts, doctor.Bytes(int64(p.Rate))+"/s")
	}
	if left := p.TimeLeft(); left > 0 {
		parts = append(parts, left.String()+" left")
	}
	if p.Parked > 0 {
		parts = append(parts, fmt.Sprintf("%d parked", p.Parked))
	}
	if len(p.Held) > 0 {
		parts = append(parts, p.Held[0])
	}
	return strings.Join(parts, ", ")
}
