package write_test

import "testing"

// keepLane is one whose mounts keep small files in archives.
func keepLane(t *testing.T, seed uint64) *lane {
	t.Helper()
	l := newLane(t, newRandom(seed, lanes), "moddav", "zone")
	l.keeps, l.flags = true, []string{"--archive=keep", "--batch-delay=20ms"}
	// What is removed or replaced before it is sent is in no archive.
	l.delays = []string{"0s", "5ms", "20ms", "100ms", "1h"}
	return l
}

// count sums up the archives that there are after each round.
func (l *lane) count(t *testing.T) {
	t.Helper()
	for _, s := range l.sides {
		l.archives += s.archives(t)
	}
}

// unpack makes plain files of what is in archives, so that the servers' own trees show them.
func (l *lane) unpack(t *testing.T) {
	t.Helper()
	for _, s := range l.sides {
		if l.keeps {
			must(t, convert(t, s.server, "unpack")...)
		}
	}
}

// archives counts those that a side's server has.
func (s *side) archives(t *testing.T) int {
	t.Helper()
	s.litter = false // which hides them
	defer func() { s.litter = true }()
	found, _ := s.present(t)
	n := 0
	for name := range found {
		if isArchive(name) {
			n++
		}
	}
	return n
}
