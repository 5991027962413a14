package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/secret"
	"github.com/meshmount/meshmount/cmd/internal/state"
)

// Command is the hidden subcommand of a serving process. Its flags name descriptors.
const (
	Command   = "serve"
	PlanFlag  = "plan-fd"
	ReadyFlag = "ready-fd"
)

// report is what the serving process tells its parent once.
type report struct {
	Code     exit.Code `json:"code"` // OK: the mount answers
	Message  string    `json:"message,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// arguments makes the command line of a serving process. The mount point is there
// for people who look at the process list.
func arguments(p *Plan, planFD int, more ...string) []string {
	args := []string{"meshmount", Command, "--" + PlanFlag + "=" + strconv.Itoa(planFD)}
	return append(append(args, more...), "--", p.Point)
}

// program is the file to run: this same program, even if its file was replaced.
func program() string {
	if name, err := os.Executable(); err == nil {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return "/proc/self/exe"
}

// Foreground becomes the serving process. It returns only on an error.
func Foreground(p *Plan, environ []string) error {
	// Without close-on-exec: the descriptor is to survive.
	fd, err := unix.MemfdCreate("meshmount-plan", 0)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "meshmount-plan")
	if err := p.send(file); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err = syscall.Exec(program(), arguments(p, fd), secret.Environ(environ, p.Config.SecretVars))
	return fmt.Errorf("cannot run %s: %w", program(), err)
}

// answerTime is how long a mount that was reported ready may take to answer us.
const answerTime = 30 * time.Second

// Background starts a serving process in a session of its own and returns when its
// mount answers, with what is not as it should be, a line each. On an error, which is an
// *exit.Error, nothing is mounted and no process is left. The end of ctx gives the mount up.
func Background(ctx context.Context, p *Plan, environ []string) (warnings []string, err error) {
	child, ready, err := launch(p, environ)
	if err != nil {
		return nil, exit.New(exit.Failed, "", "cannot start the serving process: %w", err)
	}
	defer func() { _ = ready.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer stop()
	answer, err := await(ready)
	if err != nil {
		end := child.Wait()
		return nil, exit.New(exit.Failed, "see "+logName(p), "the serving process ended before the mount answered (%v)", ending(end))
	}
	if answer.Code != exit.OK {
		_ = child.Wait()
		return nil, &exit.Error{Code: answer.Code, What: answer.Message}
	}
	if err := confirm(p); err != nil {
		_ = child.Process.Signal(syscall.SIGTERM)
		_ = child.Wait()
		return nil, err
	}
	return answer.Warnings, child.Process.Release()
}

// launch starts the process and hands it the plan.
func launch(p *Plan, environ []string) (*exec.Cmd, *os.File, error) {
	log, err := OpenLog(logName(p))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = log.Close() }()
	planR, planW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = planR.Close(); _ = planW.Close() }()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = readyW.Close() }()
	cmd := &exec.Cmd{
		Path: program(), Args: arguments(p, 3, "--"+ReadyFlag+"=4"), Dir: "/",
		Env:    secret.Environ(environ, p.Config.SecretVars),
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{planR, readyW},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		_ = readyR.Close()
		return nil, nil, err
	}
	_ = planR.Close()
	// If the process dies meanwhile, its report is missing, and that tells.
	_ = p.send(planW)
	return cmd, readyR, nil
}

// await reads the report. An error means that there was none.
func await(ready io.Reader) (report, error) {
	var r report
	err := json.NewDecoder(ready).Decode(&r)
	return r, err
}

// confirm looks at the mount from outside of its process.
func confirm(p *Plan) error {
	if err := state.Probe(p.Point, answerTime); err != nil {
		return exit.New(exit.MountFailed, "see "+logName(p), "the mount on %s does not answer: %w", p.Point, err)
	}
	return nil
}

func ending(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.Error()
	}
	return "exit status 0"
}

// Tell sends the report through a descriptor that Background has passed and closes
// it. Nobody may be there to hear it any more.
func Tell(fd int, warnings []string, err error) {
	file := os.NewFile(uintptr(fd), "ready")
	if file == nil {
		return
	}
	r := report{Code: exit.CodeOf(err), Warnings: warnings}
	if err != nil {
		r.Message = exit.OneLine(err.Error())
	}
	_ = json.NewEncoder(file).Encode(r)
	_ = file.Close()
}
