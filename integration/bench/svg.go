package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The picture's measures, in pixels.
const (
	svgWidth  = 860
	svgLeft   = 84  // where bars begin
	svgSpan   = 560 // length of a bar that reaches 100 %
	svgTop    = 92
	barHeight = 11
	barStep   = 14
	titleStep = 19
	rowGap    = 10
	// svgDecades is how many powers of ten the scale has below 100 %.
	svgDecades = 3
)

// svgStyle has one set of colours for light and one for dark surroundings.
const svgStyle = `<style>
text { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; font-size: 12px; fill: #24292f; }
.bg { fill: #ffffff; } .grid { stroke: #d0d7de; } .title { font-weight: 600; } .small { font-size: 11px; fill: #57606a; } .head { font-size: 16px; font-weight: 600; }
.ours { fill: #0969da; } .rclone { fill: #d4842c; } .davfs2 { fill: #8c959f; } .irodsfs { fill: #6f9c3f; } .python { fill: #a371f7; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .bg { fill: #0d1117; } .grid { stroke: #30363d; } .small { fill: #9198a1; }
.ours { fill: #4493f8; } .rclone { fill: #db9a4e; } .davfs2 { fill: #767e87; } .irodsfs { fill: #86b45a; } .python { fill: #b392f0; }
}
</style>
`

// drawn tells whether a row belongs into the picture: one with a speed, and somebody to
// compare with.
func drawn(r *row) bool {
	if r.Unit == mib || r.Unit == perEntry {
		return false
	}
	_, best := r.best()
	return r.Cells[ours] != nil && (r.Ref.good() || best != nil)
}

// drawSVG draws each client's speed in each row as a part of the limit, or of the best
// client where there is none, on a logarithmic scale. Longer is better.
func drawSVG(rows []*row) string {
	var body strings.Builder
	y := svgTop
	for _, r := range rows {
		if drawn(r) {
			y = drawRow(&body, r, y)
		}
	}
	height := y + 10
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", svgWidth, height, svgWidth, height)
	b.WriteString("<title>meshmount beside other clients</title>\n" + svgStyle)
	fmt.Fprintf(&b, `<rect class="bg" width="%d" height="%d"/>`+"\n", svgWidth, height)
	b.WriteString(`<text class="head" x="12" y="26">Reads and writes over a wide-area path: 50 ms, 1.2 Gbit/s</text>` + "\n")
	b.WriteString(`<text class="small" x="12" y="44">Speed as a part of what the path or the local disk allows, or of the best client. Logarithmic; longer is better.</text>` + "\n")
	drawLegend(&b)
	for d := range svgDecades + 1 {
		x := svgLeft + svgSpan*d/svgDecades
		fmt.Fprintf(&b, `<line class="grid" x1="%d" y1="%d" x2="%d" y2="%d"/>`, x, svgTop-6, x, height-8)
		fmt.Fprintf(&b, `<text class="small" x="%d" y="%d" text-anchor="middle">%g %%</text>`+"\n", x, svgTop-12, 100*math.Pow10(d-svgDecades))
	}
	b.WriteString(body.String())
	b.WriteString("</svg>\n")
	return b.String()
}

func drawLegend(b *strings.Builder) {
	x := 12
	for _, name := range clientNames {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="54" width="11" height="11"/><text x="%d" y="64">%s</text>`+"\n", name, x, x+16, label(name))
		x += 96
	}
}

// label is a client's name for people.
func label(name string) string {
	if name == ours {
		return "meshmount"
	}
	return name
}

// drawRow draws one row from y on and returns where the next one begins.
func drawRow(b *strings.Builder, r *row, y int) int {
	title := r.Title
	if r.Ref.good() {
		title += fmt.Sprintf(" (limit: %s %s)", number(r.Ref.Value), r.Unit)
	}
	fmt.Fprintf(b, `<text class="title" x="12" y="%d">%s</text>`+"\n", y+12, html.EscapeString(strings.ReplaceAll(title, "`", "")))
	y += titleStep
	for _, name := range clientNames {
		c := r.Cells[name]
		if c == nil {
			continue
		}
		text := c.text(r.Unit)
		width := 0
		if c.good() {
			width, text = barWidth(r, c), text+" "+string(r.Unit)
		} else {
			text = "failed"
		}
		fmt.Fprintf(b, `<text class="small" x="12" y="%d">%s</text>`, y+10, label(name))
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="2"/>`, name, svgLeft, y, width, barHeight)
		fmt.Fprintf(b, `<text class="small" x="%d" y="%d">%s</text>`+"\n", svgLeft+width+6, y+10, html.EscapeString(text))
		y += barStep
	}
	return y + rowGap
}

// barWidth is how far a cell comes towards the limit, or the best client.
func barWidth(r *row, c *cell) int {
	against := r.Ref
	if !against.good() {
		against = c
		for _, other := range r.Cells {
			if r.ratio(other, against) > 1 {
				against = other
			}
		}
	}
	part := 1 + math.Log10(r.ratio(c, against))/svgDecades
	return int(math.Round(svgSpan * min(max(part, 0.004), 1.1)))
}
