package remotetest

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// attrBatcher returns the AttrBatcher, or false if there is nothing to check.
func (e *env) attrBatcher() (remote.AttrBatcher, bool) {
	e.Helper()
	s, ok := remote.As[remote.AttrBatcher](e.b)
	if !ok || s.AttrBatches() < 2 {
		e.Log("the backend has not this ability")
		return nil, false
	}
	return s, true
}

// setAttrBatch sets attributes and returns the results, of which there must be one each.
func (e *env) setAttrBatch(s remote.AttrBatcher, items []remote.AttrItem) []remote.BatchResult {
	e.Helper()
	var ticks atomic.Int64
	results, err := s.SetAttrBatch(remote.WithProgress(e.ctx, func() { ticks.Add(1) }), items)
	if err != nil || len(results) != len(items) || ticks.Load() == 0 {
		e.Fatalf("setting attributes of %d entries: %d results, %d signs of progress, %v", len(items), len(results), ticks.Load(), err)
	}
	return results
}

// checkSetAttrBatch sets attributes of files and directories, and wants what SetAttr makes.
func checkSetAttrBatch(e *env) {
	s, ok := e.attrBatcher()
	if !ok {
		return
	}
	when := time.Date(2010, 11, 12, 13, 14, 15, 0, time.UTC)
	mode := uint32(0o640)
	var items []remote.AttrItem
	e.mkdir("/d")
	e.mkdir("/d/with blank & ü")
	for i := range min(s.AttrBatches(), 12) {
		path := fmt.Sprintf("/d/%d", i)
		if i%3 == 0 {
			path = fmt.Sprintf("/d/with blank & ü/it's %d", i)
		}
		e.put(path, []byte(path))
		items = append(items, remote.AttrItem{Path: path, Attrs: remote.Attrs{MTime: &when, Mode: &mode}})
	}
	one := append(items[:len(items):len(items)], remote.AttrItem{Path: "/d", Attrs: remote.Attrs{Mode: &mode}})
	for round := range 2 { // the second changes nothing
		for i, r := range e.setAttrBatch(s, one) {
			path := one[i].Path
			switch {
			case remote.KindOf(r.Err) == remote.Unsupported && r.Err != nil: // it is to be set alone
				if _, err := s.(remote.AttrSetter).SetAttr(e.ctx, path, one[i].Attrs); err != nil {
					e.Errorf("setattr of %s: %v", path, err)
				}
			case r.Err != nil:
				e.Errorf("round %d: setattr of %s: %v", round, path, r.Err)
			default:
				e.sameEntry("setattr of many and stat", r.Entry, e.stat(path))
			}
			if i < len(items) {
				e.wantAttrs("setattr of many", e.stat(path), when, mode)
				e.wantContent(path, []byte(path))
			}
		}
	}
	later := when.Add(time.Hour)
	for i := range items {
		items[i].Attrs = remote.Attrs{MTime: &later}
	}
	for i, r := range e.setAttrBatch(s, items) {
		if r.Err == nil {
			e.wantAttrs("setattr of the time only", e.stat(items[i].Path), later, mode)
		}
	}
}

// checkSetAttrBatchErrors wants one entry that is not there to be no harm to the others.
func checkSetAttrBatchErrors(e *env) {
	s, ok := e.attrBatcher()
	if !ok {
		return
	}
	mode := uint32(0o600)
	e.mkdir("/d")
	var items []remote.AttrItem
	for _, name := range []string{"/d/a", "/none", "/d/b", "/d/none", "/d/c", "/d/d/none", "/d/e", "/d/f"} {
		items = append(items, remote.AttrItem{Path: name, Attrs: remote.Attrs{Mode: &mode}})
		if _, last := remote.Split(name); last != "none" {
			e.put(name, nil)
		}
	}
	for i, r := range e.setAttrBatch(s, items) {
		_, last := remote.Split(items[i].Path)
		switch kind := remote.KindOf(r.Err); {
		case r.Err != nil && kind == remote.Unsupported:
		case last == "none" && (r.Err == nil || kind != remote.NotExist):
			e.Errorf("setattr of %s, which is not there: %v", items[i].Path, r.Err)
		case last != "none" && r.Err != nil:
			e.Errorf("setattr of %s: %v", items[i].Path, r.Err)
		}
	}
}
