package serve

import (
	"context"
	"fmt"
	"time"
)

// closers undo what a mount is made of, last in, first out.
type closers []closer

type closer struct {
	what     string
	patience time.Duration // 0 is for ever
	grace    time.Duration // on top, to react to the end of the context
	undo     func(context.Context) error
}

// add puts a step on top.
func (c *closers) add(what string, patience time.Duration, undo func(context.Context) error) {
	*c = append(*c, closer{what, patience, 5 * time.Second, undo})
}

// run does all steps, whatever they return, and hands each failure to report. Each
// step has its own time; one that does not return in time is left behind, so that
// the others get their turn.
func (c *closers) run(ctx context.Context, report func(what string, err error)) {
	for i := len(*c) - 1; i >= 0; i-- {
		if err := (*c)[i].run(ctx); err != nil {
			report((*c)[i].what, err)
		}
	}
	*c = nil
}

func (c *closer) run(ctx context.Context) error {
	if c.patience == 0 {
		return c.undo(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.undo(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(c.patience + c.grace):
		return fmt.Errorf("not done within %v", c.patience+c.grace)
	}
}
