package prefetch

// Run tells how far the order goes that the opens follow now: opens in a row, and what
// Expect has lent; 0 if they follow none.
func (d *DirAhead) Run() int {
	if o := d.best(); o != nil {
		return o.run
	}
	return 0
}

// best returns the order that the opens follow, nil if they follow none.
func (d *DirAhead) best() *dirOrder {
	var best *dirOrder
	for i := range d.orders {
		if o := &d.orders[i]; o.run >= dirProof && (best == nil || o.run > best.run) {
			best = o
		}
	}
	return best
}

// Rest returns the small files of the order that come after those which are fetched
// already.
func (d *DirAhead) Rest() (rest []File) {
	o := d.best()
	if o == nil {
		return nil
	}
	for _, f := range o.files[o.front:] {
		if _, ok := d.issued[f.Name]; !ok && d.fetches(f) {
			rest = append(rest, f)
		}
	}
	return rest
}

// Take takes note that files are fetched by other means: Open does not return them, unless
// they are given back.
func (d *DirAhead) Take(files []File) {
	for _, f := range files {
		d.issued[f.Name] = false
	}
}

// GiveBack takes back files that Take or Open had: they are to be fetched again if they are
// still ahead. It returns those that are to be fetched now.
func (d *DirAhead) GiveBack(names []string) []File {
	for _, name := range names {
		if d.issued[name] {
			continue // opened meanwhile
		}
		delete(d.issued, name)
		for i := range d.orders {
			o := &d.orders[i]
			if at, ok := o.at[name]; ok && at > o.high {
				o.front = min(o.front, at)
			}
		}
	}
	if o := d.best(); o != nil {
		return d.next(o)
	}
	return nil
}
