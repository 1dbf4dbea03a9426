// A kube-apiserver with its own etcd on 127.0.0.1, for as long as a test run lasts.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const serveAbout = `controlplane serve --dir DIR [--port N] [--feature-gates A=true,...] [-- kube-apiserver flags]

Runs a kube-apiserver with an embedded etcd, keeps all its files in DIR, and prints one line on standard output when
it can be used: "ready https://127.0.0.1:PORT". Ends on SIGTERM, with its parent, and at the end of standard input.
The process works in DIR: relative paths in the flags after -- are taken from there. A flag given there wins.
Started again on the same DIR it has the same data, certificates, keys and tokens.

In DIR: ca.crt, ca.key    the certificate authority, for clients and for more certificates
        admin.kubeconfig  a member of system:masters
        node-n1.kubeconfig, node-n2..., node-n3...  the kubelets of three nodes, which do not exist as objects
        tokens.csv        all tokens: the above, and user-00 to user-63 (token "token-user-00"...) in no group
        audit.log         who asked for what, one JSON object per line
        log               everything that the API server and etcd have to say`

// The whole stop takes less than two seconds: what is not done by then is not waited for.
const (
	apiServerStopTime = 1200 * time.Millisecond
	etcdStopTime      = 500 * time.Millisecond
	startTime         = 2 * time.Minute
)

func serve(args []string) error {
	fs := flagSet("serve", serveAbout)
	dir := fs.String("dir", "", "folder for all files; made if it is not there")
	port := fs.Int("port", 0, "port of the API server; a free one if 0")
	gates := fs.String("feature-gates", "", "more feature gates of the API server, as NAME=true,NAME=false")
	if err := fs.Parse(args); err != nil {
		return err
	}
	extra, err := afterDashes(fs)
	if err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("--dir is missing")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	// etcd listens on a socket here, and the path of a socket may not be longer than 107 bytes.
	if err := os.Chdir(*dir); err != nil {
		return err
	}
	caller, err := logInsteadOfOutput("log")
	if err != nil {
		return err
	}
	if err := runControlPlane(*port, *gates, extra, caller); err != nil {
		// What main prints goes to the log by now.
		fmt.Fprintf(caller.stderr, "controlplane serve: %v (see %s)\n", err, filepath.Join(*dir, "log"))
		return err
	}
	return nil
}

// runControlPlane starts everything, says so, and stops everything when its time has come.
func runControlPlane(port int, gates string, extra []string, caller *callersOutput) error {
	ctx, cancel := lifetime()
	defer cancel()
	atEndOfInput(cancel)

	material, err := loadOrMakeMaterial()
	if err != nil {
		return err
	}
	etcd, err := startEtcd()
	if err != nil {
		return err
	}
	defer within(etcdStopTime, etcd.Close)

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	url := "https://" + listener.Addr().String()
	apiServer, stopAPIServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPIServer()
	ended := make(chan error, 1)
	go func() { ended <- runAPIServer(apiServer, listener, gates, extra) }()

	usable := make(chan error, 1)
	go func() { usable <- waitUsable(ctx, url, material) }()
	for {
		select {
		case err := <-usable:
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil {
				if err := material.writeKubeconfigs(url); err != nil {
					return err
				}
				fmt.Fprintf(caller.stdout, "ready %s\n", url)
			}
			usable = nil
		case err := <-ended:
			return fmt.Errorf("the API server ended by itself: %w", err)
		case <-ctx.Done():
			stopAPIServer()
			within(apiServerStopTime, func() { <-ended })
			return nil
		}
	}
}

// within runs a function and returns when it is done or when its time is over.
func within(limit time.Duration, run func()) {
	done := make(chan struct{})
	go func() {
		run()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// afterDashes gives the arguments after --, and refuses any before it.
func afterDashes(fs *pflag.FlagSet) ([]string, error) {
	before := fs.ArgsLenAtDash()
	if before == -1 {
		before = fs.NArg()
	}
	if before > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return fs.Args()[before:], nil
}

// callersOutput is where our caller reads us.
type callersOutput struct{ stdout, stderr *os.File }

// logInsteadOfOutput sends whatever this process prints, panics included, to the end of a file, and returns where
// its output went before.
func logInsteadOfOutput(path string) (*callersOutput, error) {
	var before [2]int
	for i, fd := range []int{1, 2} {
		kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, err
		}
		before[i] = kept
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(log.Fd()), fd, 0); err != nil {
			return nil, err
		}
	}
	return &callersOutput{os.NewFile(uintptr(before[0]), "stdout"), os.NewFile(uintptr(before[1]), "stderr")}, nil
}
