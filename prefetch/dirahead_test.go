package prefetch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// listing returns n files of 16 KiB in an order that is not that of the names.
func listing(n int) []File {
	files := make([]File, n)
	for i := range files {
		files[i] = File{Name: fmt.Sprintf("f%05d", (i*7919)%n), Size: 16 << 10}
	}
	return files
}

// openAll opens the files and returns what was fetched ahead, and how many of the opens
// found their content there.
func openAll(d *DirAhead, names []string) (fetched []string, hits int) {
	have := map[string]bool{}
	for _, name := range names {
		if have[name] {
			hits++
		}
		for _, f := range d.Open(name, !have[name]) {
			have[f.Name] = true
			fetched = append(fetched, f.Name)
		}
	}
	return fetched, hits
}

func namesOf(files []File) []string {
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	return names
}

// TestDirAhead opens the files of a directory in several ways.
func TestDirAhead(t *testing.T) {
	const n = 1999 // prime, so that listing is a permutation
	files := listing(n)
	inOrder, byName := namesOf(files), slices.Sorted(slices.Values(namesOf(files)))
	late := slices.Clone(inOrder) // eight at a time
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := 0; i+8 < n; i += 8 {
		rnd.Shuffle(8, func(a, b int) { late[i+a], late[i+b] = late[i+b], late[i+a] })
	}
	shuffled := slices.Clone(inOrder)
	rnd.Shuffle(n, func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
	var third []string
	for i := 0; i < n; i += 3 {
		third = append(third, inOrder[i])
	}
	tests := []struct {
		name        string
		opens       []string
		hits, waste int // at least, at most
	}{
		{"listing order", inOrder, n - 10, 0},
		{"order of names", byName, n - 10, 64},
		{"eight at a time", late, n * 9 / 10, 64},
		{"in no order", shuffled, 0, n / 10},
		{"every third", third, 0, n},
		{"only a part", inOrder[300:400], 85, 64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := NewDirAhead(files, 1<<20, 64)
			fetched, hits := openAll(d, test.opens)
			waste := len(fetched) - hits
			t.Logf("%d opens, %d fetched, %d hits", len(test.opens), len(fetched), hits)
			if hits < test.hits || waste > test.waste {
				t.Errorf("%d hits, want %d; %d wasted, at most %d", hits, test.hits, waste, test.waste)
			}
			slices.Sort(fetched)
			if len(slices.Compact(fetched)) != hits+waste {
				t.Error("a file was fetched twice")
			}
		})
	}
}

// TestDirAheadBounds: large and empty files are left out, and never more than most
// files are ahead; the number grows only when an open had to wait.
func TestDirAheadBounds(t *testing.T) {
	files := listing(1999)
	for i := range files {
		switch i % 4 {
		case 1:
			files[i].Size = 10 << 20
		case 2:
			files[i].Size = 0
		}
	}
	d := NewDirAhead(files, 1<<20, 32)
	ahead := map[string]bool{}
	for i, f := range files {
		delete(ahead, f.Name)
		for _, next := range d.Open(f.Name, i < 20) {
			if next.Size > 1<<20 || next.Size == 0 {
				t.Fatalf("%+v was fetched", next)
			}
			ahead[next.Name] = true
		}
		if len(ahead) > 32 {
			t.Fatalf("%d files ahead", len(ahead))
		}
	}
	calm := NewDirAhead(listing(1999), 1<<20, 32)
	for _, f := range listing(1999)[:100] {
		if got := calm.Open(f.Name, false); len(got) > dirBatch {
			t.Fatalf("%d files at once without a wait", len(got))
		}
	}
	if !calm.Active() {
		t.Error("the pattern was not seen")
	}
	if got := calm.Open(listing(1999)[1900].Name, true); len(got) != 0 || calm.Active() {
		t.Errorf("after the pattern's end: %v", got)
	}
	if got := calm.Open("stranger", true); got != nil {
		t.Errorf("for a file that is not in the listing: %v", got)
	}
}

// TestWalk walks a tree in depth, as find does, and counts the listings that were there.
func TestWalk(t *testing.T) {
	tree := map[string][]string{}
	for i := range 20 {
		a := fmt.Sprintf("/a%02d", i)
		tree["/"] = append(tree["/"], a)
		for j := range 10 {
			tree[a] = append(tree[a], fmt.Sprintf("%s/b%02d", a, j))
		}
	}
	w, have := NewWalk(16), map[string]bool{}
	hits, asked, most := 0, 0, 0
	var visit func(dir string)
	visit = func(dir string) {
		asked++
		if have[dir] {
			hits++
		}
		w.Asked(dir, !have[dir])
		w.Listed(dir, tree[dir])
		for next := w.Next(); len(next) > 0; next = w.Next() {
			most = max(most, len(next))
			for _, d := range next {
				if have[d] {
					t.Fatalf("%s was listed twice", d)
				}
				have[d] = true
				w.Listed(d, tree[d])
			}
		}
		for _, child := range tree[dir] {
			visit(child)
		}
	}
	visit("/")
	if hits < asked-4 || most > 16 || w.ahead != 0 || len(w.todo) != 0 || len(w.issued) != 0 {
		t.Errorf("%d of %d listings were there, %d at once; left: %d, %d, %d", hits, asked, most, w.ahead, len(w.todo), len(w.issued))
	}
}

// TestWalkSorted walks in another order than that of the listing: all directories are
// listed ahead, many at once, nevertheless.
func TestWalkSorted(t *testing.T) {
	var children []string
	for i := range 100 {
		children = append(children, fmt.Sprintf("/d%02d", i*37%100))
	}
	w := NewWalk(16)
	w.Asked("/", true)
	w.Listed("/", children)
	slices.Sort(children)
	arrived, late := map[string]bool{}, 0
	for _, dir := range children {
		if !arrived[dir] {
			late++
		}
		w.Asked(dir, !arrived[dir])
		w.Listed(dir, nil)
		next := w.Next()
		if len(next) > 16 {
			t.Fatalf("%d at once", len(next))
		}
		for _, d := range next { // they come while the next one is looked at
			arrived[d] = true
			w.Listed(d, nil)
		}
	}
	if late > 15 || w.ahead != 0 || w.flying != 0 {
		t.Errorf("%d listings were late; left: %d, %d", late, w.ahead, w.flying)
	}
}

// TestNoWalk: single listings start nothing, and a walk ends when another place is listed.
func TestNoWalk(t *testing.T) {
	w := NewWalk(16)
	for _, dir := range []string{"/x", "/y/z", "/x", "/q"} {
		w.Asked(dir, true)
		w.Listed(dir, []string{dir + "/1", dir + "/2"})
		if got := w.Next(); got != nil {
			t.Fatalf("after %s: %v", dir, got)
		}
	}
	w.Asked("/q/1", true)
	w.Listed("/q/1", []string{"/q/1/a"})
	w.Asked("/q/1/a", true)
	if got := w.Next(); !slices.Equal(got, []string{"/q/2"}) {
		t.Fatalf("in a walk: %v", got)
	}
	w.Failed("/q/2")
	if got := w.Next(); got != nil || w.ahead != 0 {
		t.Fatalf("after a failure: %v, %d ahead", got, w.ahead)
	}
	w.Asked("/elsewhere", true)
	if w.Active() || w.Next() != nil {
		t.Error("the walk has not ended")
	}
}

// TestWalkBounded: what is remembered is bounded.
func TestWalkBounded(t *testing.T) {
	w := NewWalk(4)
	w.Asked("/", true)
	var children []string
	for i := range walkKnown + 100 {
		children = append(children, fmt.Sprintf("/%d", i))
	}
	w.Listed("/", children)
	if len(w.todo) != walkKnown || len(w.issued) != walkKnown {
		t.Errorf("%d directories remembered", len(w.todo))
	}
}

// ExampleDirAhead opens files in the order of their names.
func ExampleDirAhead() {
	d := NewDirAhead([]File{{"c", 10}, {"a", 10}, {"b", 1 << 40}, {"e", 10}, {"d", 10}, {"f", 10}}, 1<<20, 64)
	for _, name := range []string{"a", "b", "c"} {
		fmt.Println(name, d.Open(name, true))
	}
	// Output:
	// a []
	// b []
	// c [{d 10} {e 10} {f 10}]
}
