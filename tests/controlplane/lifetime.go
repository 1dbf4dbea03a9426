// When a verb has to end: on a signal, with its parent process, or at the end of its standard input.

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// parentGone is closed when the process that started this one no longer exists.
var parentGone = make(chan struct{})

// endWithParent asks the kernel to tell when the parent dies. It must run on the main thread: the request belongs
// to the thread that makes it. The kernel tells when the *thread* that forked ends, and a test runner forks from
// short-lived threads; so the signal only makes us look whether our parent is still the same process.
func endWithParent() {
	parent := os.Getppid()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1)
	go func() {
		for range signals {
			if os.Getppid() != parent {
				close(parentGone)
				return
			}
		}
	}()
	// Without it, standard input still tells of the parent's end: not worth failing for.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGUSR1), 0, 0, 0)
}

// lifetime is done on SIGTERM, SIGINT, the parent's end, or when the returned function is called.
func lifetime() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-parentGone:
		case <-ctx.Done():
		}
		cancel()
	}()
	var once sync.Once
	return ctx, func() { once.Do(stop); cancel() }
}

// atEndOfInput calls end when standard input has nothing more to give.
func atEndOfInput(end func()) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
}
