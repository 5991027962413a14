package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// text prints a cell's value.
func (c *cell) text(u unit) string {
	switch {
	case c == nil:
		return "—"
	case c.Failed != "":
		return "failed"
	case c.Cut && !u.more():
		return "> " + number(c.Value)
	case c.Cut:
		return number(c.Value) + " (cut)"
	}
	return number(c.Value)
}

// summary is all that a run tells.
type summary struct {
	Machine string            `json:"machine"`
	Load    string            `json:"load"` // runnable tasks of others when it began
	Date    string            `json:"date"`
	Took    float64           `json:"seconds"`
	Quick   bool              `json:"quick,omitempty"`
	Missing map[string]string `json:"missing,omitempty"`
	Rows    []*row            `json:"rows"`
}

// report prints the tables and, if the run was completed, writes the files.
func (b *bench) report(complete bool) error {
	s := &summary{Machine: machine(), Load: b.load, Date: b.begun.UTC().Format("2006-01-02"), Took: time.Since(b.begun).Seconds(), Quick: b.conf.quick,
		Missing: b.missing, Rows: b.results()}
	if _, err := io.WriteString(os.Stdout, "\n"+s.plain()); err != nil {
		return err
	}
	if b.conf.out == "" || !complete {
		return nil
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(b.conf.out, 0o755),
		os.WriteFile(filepath.Join(b.conf.out, "result.json"), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(b.conf.out, "result.md"), []byte(s.markdown()), 0o644),
		os.WriteFile(filepath.Join(b.conf.out, "result.svg"), []byte(drawSVG(s.Rows)), 0o644))
}

// machine describes where this ran.
func machine() string {
	var u unix.Utsname
	kernel := "unknown kernel"
	if unix.Uname(&u) == nil {
		kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	model := ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = " of " + strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d CPUs%s, %s, %s", runtime.NumCPU(), model, kernel, runtime.Version())
}

// loadAverage returns how many tasks wanted a CPU in the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	average, _, _ := strings.Cut(string(text), " ")
	return average
}

// head names the path and the machine.
func (s *summary) head() string {
	text := fmt.Sprintf("Path: %.0f ms round trip, %.1f Gbit/s shared, %d MiB window per connection. Machine: %s, load average %s before. %s, %.0f s.",
		pathRTT.Seconds()*1000, pathRate*8/1e9, pathWindow>>20, s.Machine, s.Load, s.Date, s.Took)
	if s.Quick {
		text += " Quick sizes: the budgets are meant for the full ones."
	}
	for _, name := range slices.Sorted(maps.Keys(s.Missing)) {
		text += fmt.Sprintf(" Without %s: %s.", name, s.Missing[name])
	}
	return text
}

// columns returns the clients that have any cell.
func (s *summary) columns() []string {
	return slices.DeleteFunc(slices.Clone(clientNames), func(name string) bool {
		return !slices.ContainsFunc(s.Rows, func(r *row) bool { return r.Cells[name] != nil })
	})
}

// results is the main table.
func (s *summary) results() [][]string {
	clients := s.columns()
	table := [][]string{slices.Concat([]string{"work", "unit", "limit"}, clients, []string{"to best peer", "to limit", "budget", ""})}
	for _, r := range s.Rows {
		line := []string{r.Title, string(r.Unit), "—"}
		if r.Ref != nil {
			line[2] = r.Ref.text(r.Unit) + " " + r.Limit
		}
		for _, name := range clients {
			line = append(line, r.Cells[name].text(r.Unit))
		}
		to := func(v float64) string {
			if v == 0 {
				return "—"
			}
			return number(v) + " ×"
		}
		reach := "—"
		if r.Reach > 0 {
			reach = fmt.Sprintf("%.0f %%", r.Reach*100)
		}
		table = append(table, append(line, to(r.Ratio), reach, r.Budget, r.Met))
	}
	return table
}

// failures says why there is no value, each reason of a client once.
func (s *summary) failures() []string {
	var lines []string
	titles := map[string]string{}
	for _, r := range s.Rows {
		for _, name := range append([]string{limitName}, clientNames...) {
			c := r.Cells[name]
			if name == limitName {
				c = r.Ref
			}
			if c == nil || c.Failed == "" {
				continue
			}
			line := name + ": " + c.Failed
			if titles[line] == "" {
				lines = append(lines, line)
				titles[line] = r.Title
			} else {
				titles[line] += "; " + r.Title
			}
		}
	}
	for n, line := range lines {
		lines[n] = line + " (" + titles[line] + ")"
	}
	return lines
}

// costs is the table of what the clients have used.
func (s *summary) costs() [][]string {
	table := [][]string{{"work", "client", "s", "CPU s", "peak RSS MiB", "requests", "MB down", "MB up", "p50 ms", "p99 ms"}}
	for _, r := range s.Rows {
		for _, name := range clientNames {
			if c := r.Cells[name]; c != nil && c.Seconds > 0 {
				lat := func(v float64) string {
					if v == 0 {
						return ""
					}
					return number(v)
				}
				table = append(table, []string{r.Title, name, number(c.Seconds), fmt.Sprintf("%.2f", c.CPU), fmt.Sprint(c.RSS >> 20),
					fmt.Sprint(c.Requests), fmt.Sprintf("%.1f", float64(c.Down)/1e6), fmt.Sprintf("%.1f", float64(c.Up)/1e6), lat(c.P50), lat(c.P99)})
			}
		}
	}
	return table
}

// markdown is the report for people who read it on the web.
func (s *summary) markdown() string {
	failed := ""
	for _, line := range s.failures() {
		failed += "\n- failed: " + line
	}
	if failed != "" {
		failed += "\n"
	}
	return "# Benchmark\n\n" + s.head() + "\n\n" + markdownTable(s.results()) +
		"\n\"limit\" is what plain parallel requests over the same path reach, or the local file system where it says so. \"to best peer\" above 1 means faster than the best of the others. " +
		"Every byte was compared. \"On the server\" is looked up on the server's own disk, or in the zone's catalog: names and contents, which times and modes may follow that take requests of their own. A value marked as cut is what was reached within the time limit.\n" + failed + "\n## What it took\n\n" + markdownTable(s.costs())
}

func markdownTable(table [][]string) string {
	var b strings.Builder
	for n, line := range table {
		for _, text := range line {
			b.WriteString("| " + strings.ReplaceAll(text, "|", "\\|") + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString(strings.Repeat("|---", len(line)) + "|\n")
		}
	}
	return b.String()
}

// plain is the report for a terminal.
func (s *summary) plain() string {
	text := s.head() + "\n\n" + plainTable(s.results())
	for _, line := range s.failures() {
		text += "failed: " + line + "\n"
	}
	return text + "\n" + plainTable(s.costs())
}

func plainTable(table [][]string) string {
	widths := make([]int, len(table[0]))
	for _, line := range table {
		for n, text := range line {
			widths[n] = max(widths[n], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	for _, line := range table {
		for n, text := range line {
			b.WriteString(text)
			if n < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[n]-utf8.RuneCountInString(text)+2))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
