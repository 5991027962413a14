package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

// sample is a table with everything in it that can be in one.
func sample() *summary {
	rows := []*row{
		{rowSpec: rowSpec{Name: "a", Title: "cold <read> & `cat`", Unit: mbPerS, Limit: "path", Budget: "≥ 98 %", checks: []check{ofLimit(0.98), cpuAtMost(1.5)}},
			Ref:   &cell{Value: 140, Seconds: 7},
			Cells: map[string]*cell{ours: {Value: 139, CPU: 1, RSS: 64 << 20, Seconds: 7}, rclone: {Value: 14, Seconds: 70, Cut: true}, davfs: {Failed: "it | broke"}}},
		{rowSpec: rowSpec{Name: "b", Title: "listing", Unit: seconds, Budget: "≤ 0.6 s", checks: []check{atMost(0.6)}},
			Cells: map[string]*cell{ours: {Value: 0.8, Seconds: 0.8}, rclone: {Value: 8, Seconds: 8}}},
		{rowSpec: rowSpec{Name: "c", Title: "memory", Unit: mib}, Cells: map[string]*cell{ours: {Value: 100}}},
	}
	for _, r := range rows {
		r.judge()
	}
	return &summary{Machine: "a machine", Load: "0.5", Date: "2026-01-01", Took: 12, Missing: map[string]string{irodsfs: "not built"}, Rows: rows}
}

func TestJudge(t *testing.T) {
	s := sample()
	a, b, c := s.Rows[0], s.Rows[1], s.Rows[2]
	if a.Met != "met" || int(a.Ratio) != 9 || a.Reach < 0.99 || a.Reach > 1 {
		t.Errorf("a: %q, ratio %v, reach %v", a.Met, a.Ratio, a.Reach)
	}
	if b.Met != "missed: ≤ 0.600" || b.Ratio != 10 || b.Reach != 0 {
		t.Errorf("b: %q, ratio %v, reach %v", b.Met, b.Ratio, b.Reach)
	}
	if c.Met != "" {
		t.Errorf("c: %q", c.Met)
	}
	a.Cells[ours].CPU, a.Cells[ours].Value = 9, 70
	if a.judge(); a.Met != "missed: ≥ 98 % of the limit, ≤ 1.5 CPU s" {
		t.Errorf("a: %q", a.Met)
	}
	a.Ref = nil
	if a.judge(); a.Met != "missed: ≤ 1.5 CPU s" {
		t.Errorf("a without a limit: %q", a.Met)
	}
	a.Cells[ours].CPU = 1
	if a.judge(); a.Met != "unknown" {
		t.Errorf("a without a limit: %q", a.Met)
	}
	a.Cells[ours].Failed = "why"
	if a.judge(); !strings.HasPrefix(a.Met, "missed") {
		t.Errorf("a failed: %q", a.Met)
	}
}

// TestJudgeUnended judges times of which it is only known that they are longer.
func TestJudgeUnended(t *testing.T) {
	for _, c := range []struct {
		ours, limit cell
		check       check
		want        string
	}{
		{cell{Value: 7}, cell{Value: 7}, ofLimit(0.95), "met"},
		{cell{Value: 7, Cut: true}, cell{Value: 7}, ofLimit(0.95), "unknown"},
		{cell{Value: 90, Cut: true}, cell{Value: 7}, ofLimit(0.95), "missed: ≥ 95 % of the limit"},
		{cell{Value: 7, Cut: true}, cell{Value: 7, Cut: true}, ofLimit(0.95), "unknown"},
		{cell{Value: 9}, cell{Value: 7, Cut: true}, ofLimit(0.95), "unknown"},
		{cell{Value: 7}, cell{}, atMost(8), "met"},
		{cell{Value: 7, Cut: true}, cell{}, atMost(8), "unknown"},
		{cell{Value: 60, Cut: true}, cell{}, atMost(8), "missed: ≤ 8.00"},
	} {
		r := &row{rowSpec: rowSpec{Unit: seconds, checks: []check{c.check}}, Cells: map[string]*cell{ours: &c.ours}, Ref: &c.limit}
		if r.judge(); r.Met != c.want {
			t.Errorf("%+v of %+v: %s, want %s", c.ours, c.limit, r.Met, c.want)
		}
	}
	r := &row{rowSpec: rowSpec{Unit: mbPerS, checks: []check{ofLimit(0.95)}}, Cells: map[string]*cell{ours: {Value: 145, Cut: true}}, Ref: &cell{Value: 146}}
	if r.judge(); r.Met != "met" {
		t.Errorf("a rate of work that goes on is %s", r.Met)
	}
}

func TestPeerBudget(t *testing.T) {
	r := &row{rowSpec: rowSpec{Unit: megabytes, checks: []check{ofPeer(rclone, 0.1)}}, Cells: map[string]*cell{ours: {Value: 2}, rclone: {Value: 30}}}
	for _, c := range []struct {
		ours float64
		want string
	}{{2, "met"}, {4, "missed: ≤ 0.1 of rclone's"}} {
		r.Cells[ours].Value = c.ours
		if r.judge(); r.Met != c.want {
			t.Errorf("%v: %q", c.ours, r.Met)
		}
	}
	delete(r.Cells, rclone)
	if r.judge(); r.Met != "unknown" {
		t.Errorf("without rclone: %q", r.Met)
	}
}

func TestMarkdown(t *testing.T) {
	text := sample().markdown()
	for _, want := range []string{
		"| cold <read> & `cat` | MB/s | 140 path | 139 | 14.0 (cut) | failed | 9.93 × | 99 % | ≥ 98 % | met |\n",
		"| listing | s | — | 0.800 | 8.00 | — | 10.0 × | — | ≤ 0.6 s | missed: ≤ 0.600 |\n",
		"Without irodsfs: not built.",
		"load average 0.5 before",
		"\n- failed: davfs2: it | broke (cold <read> & `cat`)\n",
		"| cold <read> & `cat` | ours | 7.00 | 1.00 | 64 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// TestPlain checks that the columns stand below each other.
func TestPlain(t *testing.T) {
	table := plainTable([][]string{{"a", "µ", "c"}, {"aaaa", "bbb", "c"}})
	if want := "a     µ    c\naaaa  bbb  c\n"; table != want {
		t.Errorf("%q", table)
	}
	if !strings.Contains(sample().plain(), "missed") {
		t.Error("the plain table says nothing of what is missed")
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var back summary
	if err := json.Unmarshal(data, &back); err != nil || back.Rows[0].Cells[ours].RSS != 64<<20 || back.Rows[1].Met != "missed: ≤ 0.600" {
		t.Errorf("%s: %v", data, err)
	}
}

// TestSVG checks that the picture is well-formed and that longer bars are faster.
func TestSVG(t *testing.T) {
	picture := drawSVG(sample().Rows)
	width := map[string][]int{}
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			n, err := strconv.Atoi(at["width"])
			if err != nil {
				t.Fatal(err)
			}
			width[at["class"]] = append(width[at["class"]], n)
		}
	}
	// The first of each is the legend.
	o, r, d := width[ours], width[rclone], width[davfs]
	if len(o) != 3 || len(r) != 3 || len(d) != 2 || d[1] != 0 || o[1] <= r[1] || o[2] != svgSpan || o[2]-r[2] != svgSpan/svgDecades+1 {
		t.Errorf("bars: %v", width)
	}
	for _, text := range []string{"cold &lt;read&gt; &amp; cat", "139 MB/s", "prefers-color-scheme: dark", "failed"} {
		if !strings.Contains(picture, text) {
			t.Errorf("%q is missing", text)
		}
	}
	if strings.Contains(picture, "memory") {
		t.Error("the picture shows memory")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.0123: "0.012", 1.234: "1.23", 99.94: "99.9", 141.6: "142", 9999: "9999", 23300.4: "23,300"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s", v, got)
		}
	}
}
