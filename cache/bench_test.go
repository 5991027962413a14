package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// BenchmarkOpen opens a store with a million entries in its index. Its segments are
// sparse files: Open looks only at some headers of the last.
func BenchmarkOpen(b *testing.B) {
	const blocks = 1_000_000
	dir := filepath.Join(b.TempDir(), "c")
	opts := Options{Size: 136 << 30, BlockSize: testBlock}
	s := openStore(b, dir, opts)
	fillIndex(b, s, blocks)
	l := s.slab
	closeStore(b, s)
	for n := range blocks / l.segSlots {
		if err := os.WriteFile(l.path(n), nil, 0o600); err != nil {
			b.Fatal(err)
		}
		if err := os.Truncate(l.path(n), l.segmentSize()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		s := openStore(b, dir, opts)
		b.StopTimer()
		if st := s.Stats(); st.Slots < blocks-l.segSlots || st.State != StateReady {
			b.Fatalf("%+v", st)
		}
		if _, err := s.index.get(key("/o77", 7).ident(0).id); err != nil {
			b.Fatal(err)
		}
		closeStore(b, s)
		b.StartTimer()
	}
}

// fillIndex makes n entries for blocks that are not there.
func fillIndex(b *testing.B, s *Store, n int) {
	b.Helper()
	const batch = 200
	for first := 0; first < n; first += batch {
		err := s.index.change(batch, func(txn *badger.Txn) error {
			for i := first; i < first+batch; i++ {
				k := key(fmt.Sprint("/o", i/100), i%100).ident(0).id
				if err := txn.Set(k[:], location{int32(i), 1}.encode()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGet4K reads 4 KiB at random places of blocks that are in the page cache.
func BenchmarkGet4K(b *testing.B) {
	s := openStore(b, filepath.Join(b.TempDir(), "c"), Options{Size: 256 << 20})
	const blocks = 128
	for n := range blocks {
		s.Put(key("/f", n), make([]byte, s.BlockSize()), Normal)
	}
	p := make([]byte, 4096)
	for b.Loop() {
		if n, ok := s.Get(key("/f", rand.IntN(blocks)), int64(rand.IntN(256))*4096, p); !ok || n != len(p) {
			b.Fatal(n, ok)
		}
	}
}

// BenchmarkGetBlock reads whole blocks that are in the page cache.
func BenchmarkGetBlock(b *testing.B) {
	s := openStore(b, filepath.Join(b.TempDir(), "c"), Options{Size: 256 << 20})
	const blocks = 128
	for n := range blocks {
		s.Put(key("/f", n), make([]byte, s.BlockSize()), Normal)
	}
	p := make([]byte, s.BlockSize())
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if n, ok := s.Get(key("/f", rand.IntN(blocks)), 0, p); !ok || n != len(p) {
			b.Fatal(n, ok)
		}
	}
}

// BenchmarkPut stores blocks of 1 MiB and throws old ones out.
func BenchmarkPut(b *testing.B) {
	s := openStore(b, filepath.Join(b.TempDir(), "c"), Options{Size: 256 << 20})
	p := make([]byte, s.BlockSize())
	b.SetBytes(int64(len(p)))
	n := 0
	for b.Loop() {
		n++
		if !s.Put(Key{Branch: "b", Object: "/f", Version: "v", Index: uint32(n)}, p, Normal) {
			b.Fatal(s.Stats())
		}
	}
}
