package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// unit is what a row's numbers are in.
type unit string

const (
	mbPerS    unit = "MB/s" // 10^6 bytes
	filesPerS unit = "files/s"
	readsPerS unit = "reads/s"
	seconds   unit = "s"
	millis    unit = "ms"
	mib       unit = "MiB"
	megabytes unit = "MB"
	perEntry  unit = "µs/file"
)

// more tells whether a larger number is the better one.
func (u unit) more() bool { return u == mbPerS || u == filesPerS || u == readsPerS }

// cell is what one client did in one row.
type cell struct {
	Value    float64 `json:"value"`
	Cut      bool    `json:"cut,omitempty"`    // the time limit came first
	Failed   string  `json:"failed,omitempty"` // why there is no value
	Seconds  float64 `json:"seconds,omitempty"`
	CPU      float64 `json:"cpu_seconds,omitempty"`
	RSS      int64   `json:"peak_rss_bytes,omitempty"`
	Requests int64   `json:"requests,omitempty"`
	Conns    int64   `json:"connections,omitempty"`
	Down     int64   `json:"bytes_down,omitempty"`
	Up       int64   `json:"bytes_up,omitempty"`
	P50      float64 `json:"p50_ms,omitempty"`
	P99      float64 `json:"p99_ms,omitempty"`
}

// good tells whether there is a value to compare with.
func (c *cell) good() bool { return c != nil && c.Failed == "" && c.Value > 0 }

// rowSpec says what a row is.
type rowSpec struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Unit   unit   `json:"unit"`
	Limit  string `json:"limit,omitempty"` // what the limit is: "path" or "local"
	Budget string `json:"budget,omitempty"`
	checks []check
}

// check is a part of a row's budget.
type check struct {
	text string
	// ok tells whether ours meets it; known is false if it cannot be told.
	ok func(r *row) (ok, known bool)
}

// row is a rowSpec with what was measured.
type row struct {
	rowSpec
	Cells map[string]*cell `json:"cells"`           // by client
	Ref   *cell            `json:"ref,omitempty"`   // the limit
	Met   string           `json:"met,omitempty"`   // "met", "missed" with what, or "unknown"
	Ratio float64          `json:"ratio,omitempty"` // ours to the best peer; above 1 is better
	Reach float64          `json:"reach,omitempty"` // ours to the limit
}

// ratio says how much better a is than b; 0 if it cannot be told.
func (r *row) ratio(a, b *cell) float64 {
	switch {
	case !a.good() || !b.good():
		return 0
	case r.Unit.more():
		return a.Value / b.Value
	}
	return b.Value / a.Value
}

// best returns the best peer.
func (r *row) best() (name string, best *cell) {
	for _, n := range clientNames[1:] {
		if c := r.Cells[n]; c.good() && (best == nil || r.ratio(c, best) > 1) {
			name, best = n, c
		}
	}
	return name, best
}

// judge fills in what follows from the cells.
func (r *row) judge() {
	_, best := r.best()
	r.Ratio, r.Reach = r.ratio(r.Cells[ours], best), r.ratio(r.Cells[ours], r.Ref)
	if len(r.checks) == 0 || r.Cells[ours] == nil {
		return
	}
	r.Met = "met"
	for _, c := range r.checks {
		ok, known := c.ok(r)
		switch {
		case !known && r.Met == "met":
			r.Met = "unknown"
		case known && !ok && r.Met != "met" && r.Met != "unknown":
			r.Met += ", " + c.text
		case known && !ok:
			r.Met = "missed: " + c.text
		}
	}
}

// ofOurs makes a check of a number of our own cell.
func ofOurs(text string, number func(c *cell) float64, ok func(v float64) bool) check {
	return check{text, func(r *row) (bool, bool) {
		c := r.Cells[ours]
		if !c.good() {
			return false, c != nil
		}
		return ok(number(c)), true
	}}
}

// atLeast and atMost bound the row's value.
func atLeast(bound float64) check {
	return ofOurs(fmt.Sprintf("≥ %v", number(bound)), func(c *cell) float64 { return c.Value }, func(v float64) bool { return v >= bound })
}

func atMost(bound float64) check {
	inner := ofOurs(fmt.Sprintf("≤ %v", number(bound)), func(c *cell) float64 { return c.Value }, func(v float64) bool { return v <= bound && v > 0 })
	return check{inner.text, func(r *row) (bool, bool) {
		ok, known := inner.ok(r)
		return ok, known && !(ok && r.unended(r.Cells[ours]))
	}}
}

// unended tells whether a time is that of work that was not done in time: the true one is
// longer.
func (r *row) unended(c *cell) bool { return c != nil && c.Cut && !r.Unit.more() }

// ofLimit wants a part of the limit.
func ofLimit(part float64) check {
	return check{fmt.Sprintf("≥ %.0f %% of the limit", part*100), func(r *row) (bool, bool) {
		if c := r.Cells[ours]; c != nil && !c.good() {
			return false, true
		}
		reach := r.ratio(r.Cells[ours], r.Ref)
		ok := reach >= part
		return ok, reach > 0 && !r.unended(r.Ref) && !(ok && r.unended(r.Cells[ours]))
	}}
}

// cpuAtMost bounds CPU seconds, rssAtMost resident memory, p99AtMost the slowest reads.
func cpuAtMost(s float64) check {
	return ofOurs(fmt.Sprintf("≤ %v CPU s", s), func(c *cell) float64 { return c.CPU }, func(v float64) bool { return v <= s })
}

func rssAtMost(bytes int64) check {
	return ofOurs("RSS ≤ "+bytesText(bytes), func(c *cell) float64 { return float64(c.RSS) }, func(v float64) bool { return v <= float64(bytes) })
}

func p99AtMost(ms float64) check {
	return ofOurs(fmt.Sprintf("p99 ≤ %v ms", ms), func(c *cell) float64 { return c.P99 }, func(v float64) bool { return v <= ms })
}

// ofPeer wants at most a part of a peer's value.
func ofPeer(name string, part float64) check {
	return check{fmt.Sprintf("≤ %v of %s's", part, name), func(r *row) (bool, bool) {
		a, b := r.Cells[ours], r.Cells[name]
		if !a.good() || !b.good() {
			return false, a != nil && !a.good()
		}
		return a.Value <= part*b.Value, true
	}}
}

// median returns the sample in the middle; a failure only if most are.
func median(samples []*cell) *cell {
	if len(samples) == 0 {
		return nil
	}
	sorted := slices.Clone(samples)
	slices.SortStableFunc(sorted, func(a, b *cell) int {
		if fa, fb := a.Failed != "", b.Failed != ""; fa != fb {
			if fa {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Value, b.Value)
	})
	return sorted[(len(sorted)-1)/2]
}

// quantile returns a quantile of durations in milliseconds.
func quantile(lat []time.Duration, q float64) float64 {
	if len(lat) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(lat))
	at := min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1)
	return float64(sorted[max(0, at)]) / float64(time.Millisecond)
}

// number prints a number with about three digits.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10000:
		return fmt.Sprintf("%d,%03d", int(math.Round(v))/1000, int(math.Round(v))%1000)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// bytesText prints a size.
func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}
