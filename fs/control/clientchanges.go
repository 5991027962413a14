package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// Status tells what is not on its server yet, with at most that many items.
func (c *Client) Status(ctx context.Context, items int) (Status, error) {
	var s Status
	err := c.call(ctx, "status", http.MethodGet, pathStatus+"?items="+strconv.Itoa(items), nil, &s)
	return s, err
}

// Items calls yield for each change that is not on its server yet, until that returns an
// error, and returns that error.
func (c *Client) Items(ctx context.Context, yield func(Item) error) error {
	_, err := c.lines(ctx, "items", http.MethodGet, pathItems, nil, func(l *line) error {
		if l.Item == nil {
			return nil
		}
		return yield(*l.Item)
	})
	return err
}

// Progress tells in short how much is not on its server yet.
func (c *Client) Progress(ctx context.Context) (Progress, error) {
	var p Progress
	err := c.call(ctx, "progress", http.MethodGet, pathProgress, nil, &p)
	return p, err
}

// Flush returns when nothing at or below a path within the mount is left, or nothing but
// what cannot be stored: then there is an error, and left names that. tell, which may be
// nil, is called now and then.
func (c *Client) Flush(ctx context.Context, path string, tell func(Progress)) (left Leftovers, err error) {
	if err := checkText("flush", path); err != nil {
		return left, err
	}
	body, err := json.Marshal(pathRequest{Path: path})
	if err != nil {
		return left, err
	}
	last, err := c.lines(ctx, "flush", http.MethodPost, pathFlush, body, func(l *line) error {
		if l.Progress != nil && tell != nil {
			tell(*l.Progress)
		}
		return nil
	})
	if last != nil && last.Left != nil {
		left = *last.Left
	}
	return left, err
}

// Retry has a parked change tried again.
func (c *Client) Retry(ctx context.Context, id uint64) error {
	return c.post(ctx, "retry", pathRetry, retryRequest{ID: id}, new(retryAnswer))
}

// RetryAll has all parked changes tried again and returns how many there are.
func (c *Client) RetryAll(ctx context.Context) (int, error) {
	var a retryAnswer
	err := c.post(ctx, "retry", pathRetry, retryRequest{All: true}, &a)
	return a.Count, err
}

// Drop gives a change up: its content is lost.
func (c *Client) Drop(ctx context.Context, id uint64) error {
	return c.post(ctx, "drop", pathDrop, dropRequest{ID: id, Lose: true}, new(struct{}))
}

// Export has the mount's process copy what these changes hold, or all parked ones, to
// files below dir, an absolute name, and calls yield for each. It overwrites nothing.
func (c *Client) Export(ctx context.Context, dir string, ids []uint64, yield func(Exported) error) error {
	if err := checkText("export", dir); err != nil {
		return err
	}
	body, err := json.Marshal(exportRequest{Dir: dir, IDs: ids})
	if err != nil {
		return err
	}
	_, err = c.lines(ctx, "export", http.MethodPost, pathExport, body, func(l *line) error {
		if l.Exported == nil {
			return nil
		}
		return yield(*l.Exported)
	})
	return err
}

// Pause holds all uploads, or has them go on.
func (c *Client) Pause(ctx context.Context, hold bool) error {
	op, path := "pause", pathPause
	if !hold {
		op, path = "resume", pathResume
	}
	return c.post(ctx, op, path, struct{}{}, new(struct{}))
}

// errCut is the error of an answer whose last line is missing.
var errCut = errors.New("the answer was cut off")

// lines sends a request and hands each line of the answer to take. It returns the last
// one, nil if that did not come.
func (c *Client) lines(ctx context.Context, op, method, path string, body []byte, take func(*line) error) (*line, error) {
	answer, err := c.send(ctx, op, method, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }()
	decoder := json.NewDecoder(answer)
	for {
		var l line
		switch err := decoder.Decode(&l); {
		case errors.Is(err, io.EOF):
			return nil, c.failed(ctx, op, errCut)
		case err != nil:
			return nil, c.failed(ctx, op, err)
		}
		switch {
		case l.End && l.Error != nil:
			return &l, l.Error.error(op)
		case l.End:
			return &l, nil
		}
		if err := take(&l); err != nil {
			return nil, err
		}
	}
}
