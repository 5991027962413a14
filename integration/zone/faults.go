package zone

import "time"

// Call is a call that may be made to fail.
type Call struct {
	API  int
	User string // who has logged in
}

// Fault says what goes wrong with one call. The zero value changes nothing.
type Fault struct {
	Delay time.Duration // before anything else
	// Code, if not 0, is answered at once; the call is not carried out.
	Code int
	// Raw, if not empty, is sent in place of a reply, without TLS even where TLS is
	// on; the call is not carried out and the connection closed.
	Raw []byte
	// Kill closes the connection and carries nothing out.
	Kill bool
	// LoseReply carries the call out and closes the connection in place of the answer.
	LoseReply bool
	// Extraction says how the extraction of an archive goes wrong.
	Extraction Extraction
}

// Extraction says what goes wrong with the extraction of an archive, which is carried out.
type Extraction struct {
	// Room, if not 0, is how many bytes the storage takes. The server does not notice:
	// what is behind them is zeros.
	Room int64
	// Members, if not 0, is after how many the agent dies.
	Members int
}

// SetFaults installs a function that is asked at each call, after authentication,
// whether and how it is to fail (nil: it is not). nil takes the function out. The
// function is called from many goroutines.
func (z *Zone) SetFaults(hook func(Call) *Fault) {
	if hook == nil {
		z.faults.Store(nil)
		return
	}
	z.faults.Store(&hook)
}

func (z *Zone) faultFor(c Call) *Fault {
	if hook := z.faults.Load(); hook != nil {
		return (*hook)(c)
	}
	return nil
}

// before applies what happens in place of the call; done tells that it did.
func (f *Fault) before(a *agent) (done bool, err error) {
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-a.z.ctx.Done():
			return true, errGone
		}
	}
	switch {
	case f.Kill:
		return true, errGone
	case len(f.Raw) > 0:
		_, _ = a.nc.Write(f.Raw)
		return true, errGone
	case f.Code != 0:
		return true, a.s.Reply(f.Code, nil, nil)
	}
	return false, nil
}
