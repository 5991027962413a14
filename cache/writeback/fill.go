package writeback

import (
	"context"

	"github.com/meshmount/meshmount/remote"
)

// fillPiece is how much of the base is fetched at a time.
const fillPiece = 8 << 20

// complete brings the bytes of the base version here that are missing, and has the journal
// know of them before anything is sent: the base is gone as soon as the server has stored
// this, whether we hear of that or not.
func (j *job) complete(ctx context.Context, size int64) error {
	if err := j.fill(ctx, size); err != nil {
		return err
	}
	return j.announce(size)
}

// fill brings the bytes of the base version here that are missing.
func (j *job) fill(ctx context.Context, size int64) error {
	st := j.stage
	if !j.b.Caps().Ranges && len(st.Missing(0, size)) > 0 {
		return j.fillStream(ctx, size)
	}
	buf := make([]byte, 0)
	for {
		m := st.Missing(0, size)
		if len(m) == 0 {
			return nil
		}
		n := min(m[0].End-m[0].Off, fillPiece)
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		base := st.Base()
		got, err := j.b.below.ReadAt(ctx, base, buf[:n], m[0].Off)
		if int64(got) < n {
			return j.lostBase(base, err)
		}
		if err := st.Fill(buf[:n], m[0].Off); err != nil {
			return remote.E("put", j.path, kindOfDisk(err), err)
		}
	}
}
