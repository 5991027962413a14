package remotetest_test

import (
	"context"
	"slices"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// unpacking returns memory whose bundles a function spoils before they are read.
func unpacking(f func(c *remote.Call)) func() remote.Backend {
	return func() remote.Backend {
		b := memory.New(memory.Options{Bundles: remote.Bundles{Files: 500, Bytes: 8 << 20, Size: 1 << 20}})
		return remote.Intercept(b, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpReadBundle {
				f(c)
			}
			return next(ctx)
		})
	}
}

// eachFile changes what is asked of each file.
func eachFile(f func(b *remote.BundleFile)) func(c *remote.Call) {
	return func(c *remote.Call) {
		c.Bundle = slices.Clone(c.Bundle)
		for i := range c.Bundle {
			f(&c.Bundle[i])
		}
	}
}

// giving changes how files are given out.
func giving(f func(give func(int, []byte) error, i int, data []byte) error) func(c *remote.Call) {
	return func(c *remote.Call) {
		give := c.Unpack
		c.Unpack = func(i int, data []byte) error { return f(give, i, data) }
	}
}

var bundleMutants = map[string]mutant{
	"bundles any version": {"BundleOld", unpacking(eachFile(func(b *remote.BundleFile) { b.Ref.Version = "" }))},
	"bundles all":         {"Bundle", unpacking(eachFile(func(b *remote.BundleFile) { b.Want = true }))},
	"loses files of bundles": {"Bundle", unpacking(giving(func(give func(int, []byte) error, i int, data []byte) error {
		if i%7 == 3 {
			return nil
		}
		return give(i, data)
	}))},
	"spoils files of bundles": {"Bundle", unpacking(giving(func(give func(int, []byte) error, i int, data []byte) error {
		data = slices.Clone(data)
		if len(data) > 1000 {
			data[1000] ^= 1
		}
		return give(i, data)
	}))},
	"gives files of bundles twice": {"Bundle", unpacking(giving(func(give func(int, []byte) error, i int, data []byte) error {
		if err := give(i, data); err != nil {
			return err
		}
		return give(i, data)
	}))},
	"bundles on": {"BundleHalt", unpacking(giving(func(give func(int, []byte) error, i int, data []byte) error {
		_ = give(i, data)
		return nil
	}))},
}
