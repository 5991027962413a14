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
	st     *Stage
	size   int64
	hold   bool
	onTear func()
	torn   bool          // guarded by st.mu
	told   chan struct{} // closed when onTear has returned
	over   chan struct{} // closed by release
}

// pin returns the present content, size bytes at most. onTear is called before the bytes
// change, at most once.
func (st *Stage) pin(size int64, hold bool, onTear func()) *pin {
	st.mu.Lock()
	defer st.mu.Unlock()
	p := &pin{st: st, size: min(size, st.size), hold: hold, onTear: onTear, told: make(chan struct{}), over: make(chan struct{})}
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
	return p.st.readFile(f, b, off)
}

// lockFor takes mu for a change of the bytes at and after off.
func (st *Stage) lockFor(off int64) {
	for {
		st.mu.Lock()
		wait, tear := st.inTheWay(off)
		if wait == nil && tear == nil {
			return
		}
		st.mu.Unlock()
		if tear != nil {
			if tear.onTear != nil {
				tear.onTear()
			}
			close(tear.told)
			continue
		}
		<-wait
	}
}

// inTheWay returns what a change at and after off has to wait for, or the pin that it has
// to tear first. Guarded by mu.
func (st *Stage) inTheWay(off int64) (wait <-chan struct{}, tear *pin) {
	for _, p := range st.pins {
		switch {
		case off >= p.size:
		case p.torn:
			select {
			case <-p.told:
			default:
				return p.told, nil
			}
		case p.hold:
			return p.over, nil
		default:
			p.torn = true
			return nil, p
		}
	}
	return nil, nil
}
