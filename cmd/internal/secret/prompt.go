package secret

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/meshmount/meshmount/remote"
)

// Terminal returns a Prompt that asks on the controlling terminal without showing
// what is typed, or nil if there is none.
func Terminal() func(ctx context.Context, question string) (remote.Secret, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	_ = tty.Close()
	return ask
}

var errInterrupted = errors.New("interrupted")

// ask reads a line from the terminal. Its settings are restored when the context
// ends or a signal comes.
func ask(ctx context.Context, question string) (remote.Secret, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return remote.Secret{}, err
	}
	defer func() { _ = tty.Close() }()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return remote.Secret{}, err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer func() { _ = term.Restore(int(tty.Fd()), before) }()
	if err := silence(int(tty.Fd())); err != nil {
		return remote.Secret{}, err
	}
	if _, err := fmt.Fprint(tty, question); err != nil {
		return remote.Secret{}, err
	}
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(int(tty.Fd()))
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		_, _ = fmt.Fprintln(tty)
		return remote.NewSecret(string(a.text)), a.err
	case <-ctx.Done():
		// The read cannot be ended; it dies with the process.
		err := errors.Join(errInterrupted, term.Restore(int(tty.Fd()), before))
		_, _ = fmt.Fprintln(tty)
		return remote.Secret{}, err
	}
}

// silence turns the echo off. That comes before the question: what is pasted or typed
// at once must not show either.
func silence(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
