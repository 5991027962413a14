// Package secret fetches passwords and tokens from where the settings say: private
// files, commands, the environment, the configuration file, the password file of
// iCommands, or the terminal.
//
// A mount fetches every secret once before it leaves the terminal, so that a missing
// one is told at once and a prompt has somebody to answer it. Files and commands are
// asked again when the server refuses what they gave: that is how short-lived tokens
// are renewed.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
)

// longest is the greatest size of a secret in bytes.
const longest = 64 << 10

// Fetcher fetches secrets.
type Fetcher struct {
	// Environ is the environment secrets may stand in, as of os.Environ. Commands
	// run in it, less Hide.
	Environ []string
	// Hide are names of variables that commands do not get.
	Hide []string
	// Stdin is given to commands. Nil means none.
	Stdin io.Reader
	// Timeout is how long a command may take; 0 is for ever.
	Timeout time.Duration
	// Prompt asks a person. Nil means that nobody is there.
	Prompt func(ctx context.Context, question string) (remote.Secret, error)
}

// Fetch returns the secret of a branch, the zero Secret for anonymous access. Errors are *exit.Error and hold no secret.
func (f *Fetcher) Fetch(ctx context.Context, b *settings.Branch) (remote.Secret, error) {
	c := &b.Credential
	switch c.From {
	case settings.FromNowhere:
		return remote.Secret{}, nil
	case settings.FromConfig:
		return c.Literal(), nil
	case settings.FromPrompt:
		return f.ask(ctx, b)
	}
	text, err := f.read(ctx, c)
	if err == nil && text == "" {
		err = errEmpty
	}
	if err == nil && strings.ContainsAny(text, "\r\n\x00") {
		err = errors.New("has more than one line, or a NUL byte")
	}
	if err != nil {
		return remote.Secret{}, unusable(b, err)
	}
	return remote.NewSecret(text), nil
}

var errEmpty = errors.New("is empty")

func (f *Fetcher) read(ctx context.Context, c *settings.Credential) (string, error) {
	switch c.From {
	case settings.FromFile:
		text, _, err := readFile(c.Arg)
		return trim(text), err
	case settings.FromIRODS:
		return readScrambled(c.Arg)
	case settings.FromCommand:
		return f.run(ctx, c.Arg)
	case settings.FromEnv:
		return f.variable(c.Arg)
	}
	return "", fmt.Errorf("comes from %q, which is unknown", c.From)
}

// unusable wraps why a secret could not be had. The cause may bring its own remedy.
func unusable(b *settings.Branch, err error) error {
	c := &b.Credential
	code, remedy := exit.SecretUnusable, ""
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errUnset) {
		code = exit.SecretMissing
	}
	if e, ok := errors.AsType[*exit.Error](err); ok {
		remedy, err = e.Remedy, errors.New(e.What)
	}
	if remedy == "" {
		remedy = "correct that, or give the " + string(c.Kind) + " another way (meshmount help mount)"
	}
	place := "file " + c.Arg
	switch c.From {
	case settings.FromCommand:
		place = "command" // its text may hold what nobody should see
	case settings.FromEnv:
		place = "variable " + c.Arg
	case settings.FromIRODS:
		place = "file of iCommands " + c.Arg
	}
	return exit.New(code, remedy, "%s: the %s %s %w", b.Title(), c.Kind, place, err)
}

// trim takes one line break off the end.
func trim(text []byte) string {
	text = bytes.TrimSuffix(text, []byte{'\n'})
	return string(bytes.TrimSuffix(text, []byte{'\r'}))
}

// readFile reads a private file, and tells when it was changed.
func readFile(name string) ([]byte, time.Time, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, reason(err)
	}
	defer func() { _ = file.Close() }()
	st, err := file.Stat()
	if err != nil {
		return nil, time.Time{}, reason(err)
	}
	if !st.Mode().IsRegular() {
		return nil, time.Time{}, errors.New("is not a regular file")
	}
	if err := settings.Private(st); err != nil {
		return nil, time.Time{}, exit.New(exit.SecretUnusable, settings.RemedyPrivate(name, st), "%w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, longest+1))
	if err != nil {
		return nil, time.Time{}, reason(err)
	}
	if len(text) > longest {
		return nil, time.Time{}, fmt.Errorf("is larger than %d bytes", longest)
	}
	return text, st.ModTime(), nil
}

// readScrambled reads the password that iinit has stored.
func readScrambled(name string) (string, error) {
	const remedy = "run iinit again, or give the password another way (meshmount help mount)"
	text, changed, err := readFile(name)
	if _, told := errors.AsType[*exit.Error](err); told {
		return "", err
	}
	if err == nil {
		var password string
		if password, err = irods.Unscramble(text, os.Getuid(), changed); err == nil {
			return password, nil
		}
	}
	return "", exit.New(exit.SecretUnusable, remedy, "%w", err)
}

// reason drops the name from an error that will be told with the name.
func reason(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("cannot be read: %w", pe.Err)
	}
	return err
}

var errUnset = errors.New("is not set")

func (f *Fetcher) variable(name string) (string, error) {
	for _, kv := range f.Environ {
		if n, value, ok := strings.Cut(kv, "="); ok && n == name {
			return value, nil
		}
	}
	return "", errUnset
}

// Environ returns environ without the named variables.
func Environ(environ, hide []string) []string {
	var list []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		hidden := false
		for _, h := range hide {
			hidden = hidden || h == name
		}
		if !hidden {
			list = append(list, kv)
		}
	}
	return list
}

// run gives the command to /bin/sh and returns what it prints. What it writes to
// stderr becomes part of the error.
func (f *Fetcher) run(ctx context.Context, command string) (string, error) {
	if f.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Timeout)
		defer cancel()
	}
	out, errs := &limited{max: longest}, &limited{max: 2000}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = Environ(f.Environ, f.Hide)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f.Stdin, out, errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	said := ""
	if text := exit.OneLine(errs.buf.String()); text != "" {
		said = ": " + text
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", exit.New(exit.SecretUnusable, "raise --secret-timeout", "did not end within %v%s", f.Timeout, said)
	case err != nil:
		return "", fmt.Errorf("failed: %w%s", err, said)
	case out.over:
		return "", fmt.Errorf("printed more than %d bytes", longest)
	}
	return trim(out.buf.Bytes()), nil
}

// limited keeps the first max bytes.
type limited struct {
	buf  bytes.Buffer
	max  int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.max-l.buf.Len())
	l.buf.Write(p[:keep])
	l.over = l.over || keep < len(p)
	return len(p), nil
}

// otherWays than a prompt to give a password.
func otherWays(b *settings.Branch) string {
	ways := "use --password-file, --password-command or " + settings.SecretVar(settings.Password, b.Name)
	if b.Kind() == settings.Zone {
		ways += ", or run iinit"
	}
	return ways
}

// ask prompts for the password.
func (f *Fetcher) ask(ctx context.Context, b *settings.Branch) (remote.Secret, error) {
	if f.Prompt == nil {
		return remote.Secret{}, exit.New(exit.SecretMissing, otherWays(b), "%s: no password for user %s", b.Title(), b.User)
	}
	s, err := f.Prompt(ctx, fmt.Sprintf("Password of %s for %s: ", b.User, b.Title()))
	switch {
	case ctx.Err() != nil || errors.Is(err, errInterrupted):
		return remote.Secret{}, exit.New(exit.Interrupted, "", "interrupted at the prompt for the password")
	case err != nil:
		return remote.Secret{}, exit.New(exit.SecretMissing, otherWays(b), "%s: no password for user %s: %w", b.Title(), b.User, err)
	case s.IsZero():
		return remote.Secret{}, exit.New(exit.SecretMissing, otherWays(b), "%s: no password for user %s", b.Title(), b.User)
	}
	return s, nil
}

// Source returns what an adapter asks for a branch's secret: first the one that was
// fetched already, and after the server has refused it, what file or command then
// give. Secrets that cannot be renewed stay the same.
func (f *Fetcher) Source(b *settings.Branch, first remote.Secret) remote.SecretSource {
	var mu sync.Mutex
	asked := false
	return func(ctx context.Context) (remote.Secret, error) {
		mu.Lock()
		defer mu.Unlock()
		from := b.Credential.From
		renewable := from == settings.FromFile || from == settings.FromCommand || from == settings.FromIRODS
		if !asked || !renewable {
			asked = true
			return first, nil
		}
		s, err := f.Fetch(ctx, b)
		if err != nil {
			return remote.Secret{}, &remote.Error{Op: "secret", Kind: remote.Auth, Err: err}
		}
		first = s
		return s, nil
	}
}
