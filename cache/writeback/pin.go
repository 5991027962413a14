package writeback

import (
	"errors"
	"io"
)

// errTorn is the error of an upload whose content was changed under it.
var errTorn = errors.New("writeback: the file was written again while it was sent")

// pin is the content of a Stage as it was at one moment, for an upload: bytes [0, size).
// If the program changes them, either the pin is torn, and reading it fails, or the
// program waits, if the pin is held. Appending changes nothing of it.
type pin struct {
	st   *Stage
	size int64
	hold bool
	// all guarded by st.mu
	torn   bool
	onTear func()
	over   chan struct{} // closed by release
}

// pin returns the present content. onTear is called, before the bytes change, at most
// once; it must not use the Stage.
func (st *Stage) pin(hold bool, onTear func()) *pin {
	st.mu.Lock()
	defer st.mu.Unlock()
	p := &pin{st: st, size: st.size, hold: hold, onTear: onTear, over: make(chan struct{})}
	st.pins = append(st.pins, p)
	return p
}

// release ends the pin; writers go on.
func (p *pin) release() {
	p.st.mu.Lock()
	defer p.st.mu.Unlock()
	for i, q := range p.st.pins {
		if q == p {
			p.st.pins = append(p.st.pins[:i], p.st.pins[i+1:]...)
			close(p.over)
			return
		}
	}
}

// isTorn tells whether the content was changed.
func (p *pin) isTorn() bool {
	p.st.mu.RLock()
	defer p.st.mu.RUnlock()
	return p.torn
}

// Size implements remote.Source.
func (p *pin) Size() int64 { return p.size }

// Open implements remote.Source.
func (p *pin) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p, 0, p.size)), nil
}

// ReadAt reads bytes of the pinned content, all of which must be in the file.
func (p *pin) ReadAt(b []byte, off int64) (int, error) {
	f, err := p.st.opened()
	if err != nil {
		return 0, err
	}
	defer p.st.mu.RUnlock()
	if p.torn {
		return 0, errTorn
	}
	p.st.home.space.tick()
	return f.ReadAt(b, off)
}

// lockFor takes mu for a change of the bytes at and after off.
func (st *Stage) lockFor(off int64) {
	for {
		st.mu.Lock()
		var wait chan struct{}
		for _, p := range st.pins {
			if off >= p.size || p.torn {
				continue
			}
			if p.hold {
				wait = p.over
				break
			}
			p.torn = true
			if p.onTear != nil {
				p.onTear()
			}
		}
		if wait == nil {
			return
		}
		st.mu.Unlock()
		<-wait
	}
}
