package assemble

import (
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

// Memory is how the memory of a mount's process is shared out. All but Whole and GC are
// bounds of what lives on Go's heap.
type Memory struct {
	// Whole is what the process may take, in bytes, and GC the part of it that Go's
	// runtime tries to keep to; the rest is for the program's text, stacks and mapped files.
	Whole, GC int64
	// Limited tells that the control group allows less than was asked for.
	Limited bool
	// Ahead is for what is read ahead: a quarter of what the program itself leaves. As
	// much again may be on its way from the servers at the same time.
	Ahead int64
	// Streams bounds the requests at a time that read ahead from one server, unless their
	// number was given: as many requests again may be there for reads that do not wait
	// for them.
	Streams int
	// Pieces is for pieces of blocks: a sixteenth, shared evenly by the branches.
	Pieces int64
	// Meta is for attributes and listings: a quarter.
	Meta int64
	// Request bounds one request and one block: an eighth of Ahead.
	Request settings.Size
	// SmallFiles bounds how many small files are fetched ahead at a time, each of up to
	// a block: a quarter.
	SmallFiles int
}

const (
	// leastProcess is the least that a process needs, in bytes, whatever its control
	// group says.
	leastProcess = 32 << 20
	// program is what the process has without reading anything, in bytes: 22 MiB were
	// measured, of which 18 are the mapped program, and what the cache keeps for reuse.
	program = 32 << 20
	// leastAhead has room for the requests of a few streams.
	leastAhead = 8 << 20
	// perStream is how much memory a stream should find, in bytes of the whole.
	perStream = 16 << 20
)

// Split shares out want bytes, or half of limit if that is less: the other half is for
// the job beside this process. A limit of 0 is none.
func Split(want, limit int64, blockSize settings.Size) Memory {
	m := Memory{Whole: want}
	if limit > 0 && limit/2 < want {
		m.Whole, m.Limited = max(limit/2, leastProcess), true
	}
	m.GC = max(m.Whole-max(m.Whole/8, 24<<20), leastProcess/2)
	m.Ahead = max((m.Whole-program)/4, leastAhead)
	m.Streams = int(max(m.Whole/perStream, 1))
	m.Pieces = m.Whole / 16
	m.Meta = m.Whole / 4
	m.Request = powerBelow(settings.Size(m.Ahead / 8))
	m.SmallFiles = int(max(m.Whole/4/int64(blockSize), 1))
	return m
}

func powerBelow(n settings.Size) settings.Size {
	p := settings.Size(1)
	for 2*p <= n {
		p *= 2
	}
	return p
}

// FitMemory shares out the memory of a mount whose process is under a control group's
// limit (0 for none), and fits the options of config into that: defaults give way, and
// what was given and does not fit is an *exit.Error.
func FitMemory(config *settings.Config, limit int64) (Memory, error) {
	m := Split(int64(config.Memory), limit, config.BlockSize)
	if config.Cache == settings.CacheOn && config.BlockSize > m.Request {
		return m, m.tooLarge(config, nil, "block-size", config.BlockSize, m.Request, 32)
	}
	for i := range config.Branches {
		b := &config.Branches[i]
		if b.MaxRequest > m.Request {
			if config.Given(b.Name, "max-request") {
				return m, m.tooLarge(config, b, "max-request", b.MaxRequest, m.Request, 32)
			}
			b.MaxRequest = m.Request
		}
		if ahead := settings.Size(m.Ahead); b.ReadAhead > ahead {
			if config.Given(b.Name, "read-ahead") {
				return m, m.tooLarge(config, b, "read-ahead", b.ReadAhead, ahead, 4)
			}
			b.ReadAhead = ahead
		}
		// Some connections stay for what somebody waits for.
		b.SmallAhead = min(b.SmallAhead, m.SmallFiles, max(b.Calls()*7/8, 1))
		if !config.Given(b.Name, "streams") {
			b.Streams = min(b.Streams, m.Streams)
		}
	}
	return m, nil
}

// tooLarge is the error of an option, of a branch unless b is nil, that takes more than
// its part of the memory.
func (m *Memory) tooLarge(config *settings.Config, b *settings.Branch, option string, have, fits settings.Size, parts int64) error {
	code, title, origin := exit.Config, "", config.Origins[option]
	if b != nil {
		title, origin = b.Title()+": ", config.OriginOf(b.Name, option)
	}
	if origin.Level == settings.ByFlag || config.Origins["memory"].Level == settings.ByFlag {
		code = exit.Usage
	}
	why, remedy := "memory is "+settings.Size(m.Whole).String(), "give --memory="+settings.Size(int64(have)*parts+program).String()+" or more, or --"+option+"="+fits.String()
	if m.Limited {
		why = "the control group leaves " + settings.Size(m.Whole).String() + " of memory"
		remedy = "give --" + option + "=" + fits.String() + " or less, or ask for more memory for the job"
	}
	return exit.New(code, remedy, "%s%s %s is too large: %s", title, option, have, why)
}
