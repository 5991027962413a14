package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
)

// cloudCommand is the first argument of this program as a server of the Nextcloud dialect.
const cloudCommand = "serve-cloud"

// The user of that server.
const (
	cloudUser   = "alice"
	cloudSecret = "app-alice"
	cloudHome   = "/remote.php/dav/files/alice/"
)

// serveCloud is the program of the server's process. It prints its address and the directory
// with the user's files, and serves until a signal. For each line that it reads it looks at
// the disk again, as files may have been put there, and prints a line.
func serveCloud(args []string) error {
	set := flag.NewFlagSet(cloudCommand, flag.ContinueOnError)
	dir := set.String("dir", "", "where the data lies")
	if err := set.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	opts := efss.Options{Dir: *dir, Users: []efss.User{{Name: cloudUser, AppPassword: cloudSecret}}}
	if err := takeIn(opts); err != nil {
		return err
	}
	s, err := efss.Start(opts, efss.StartOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	fmt.Println(strings.TrimPrefix(s.BaseURL, "http://"))
	fmt.Println(s.Disk(cloudUser))
	go rescan(s, os.Stdin) // ends with the process
	<-ctx.Done()
	return nil
}

// takeIn has a server find what is on its disk, long ago.
func takeIn(opts efss.Options) error {
	opts.Now = func() time.Time { return time.Now().Add(-age) }
	s, err := efss.Start(opts, efss.StartOptions{})
	if err != nil {
		return err
	}
	_, err = s.Scan(cloudUser)
	return errors.Join(err, s.Close())
}

// rescan looks at the disk for each line that comes.
func rescan(s *efss.Running, in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		n, err := s.Scan(cloudUser)
		fmt.Println(n, err)
	}
}

// cloudServer is that process.
type cloudServer struct {
	*child
	addr, disk string
	ask        *os.File
	answers    *bufio.Reader
}

// startCloudServer runs this program as a server of the Nextcloud dialect.
func startCloudServer(dir, log string) (*cloudServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, cloudCommand, "-dir", dir)
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	asked, ask, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, out.Close(), in.Close())
	}
	cmd.Stdout, cmd.Stdin = in, asked
	s := &cloudServer{ask: ask, answers: bufio.NewReader(out)}
	s.child, err = launch(cmd, log)
	_, _ = in.Close(), asked.Close() // the process has its own
	if err != nil {
		return nil, errors.Join(err, out.Close(), ask.Close())
	}
	addr, err := s.answers.ReadString('\n')
	disk, err2 := s.answers.ReadString('\n')
	if err := errors.Join(err, err2); err != nil {
		return nil, errors.Join(fmt.Errorf("cloud: %w: %s", err, tailOf(log)), s.stop())
	}
	s.addr, s.disk = strings.TrimSpace(addr), strings.TrimSpace(disk)
	return s, nil
}

// scan has the server look at its disk again.
func (s *cloudServer) scan() error {
	if _, err := fmt.Fprintln(s.ask); err != nil {
		return err
	}
	line, err := s.answers.ReadString('\n')
	if err == nil && !strings.HasSuffix(line, " <nil>\n") {
		err = errors.New("cloud: " + line)
	}
	return err
}

// cloudTarget is a new directory on the server's disk, of which the server knows.
func (w *world) cloudTarget(name string) (*target, error) {
	to, err := w.diskTarget(onCloud, name)
	if err != nil {
		return nil, err
	}
	remove := to.remove
	to.remove = func() error { return errors.Join(remove(), w.rescan()) }
	return to, w.rescan()
}

// startCloud makes files, starts the server over them and opens a path to it.
func (w *world) startCloud(ctx context.Context, files []file) error {
	dir := filepath.Join(w.dir, "cloud")
	if err := w.writeFiles(ctx, filepath.Join(dir, "files", cloudUser), files); err != nil {
		return err
	}
	server, err := startCloudServer(dir, filepath.Join(w.dir, "cloud.log"))
	if err != nil {
		return err
	}
	w.later(server.stop)
	addr, err := w.path.Listen(server.addr, httpMark)
	w.sides[onCloud] = side{addr: addr, local: server.disk}
	w.rescan = server.scan
	return err
}
