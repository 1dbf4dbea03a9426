// Command controlplane is what the tests hold secretfs against: the real API server, the real kubectl, the
// kubelet's own volume plugins and an ordinary file watcher, in one binary because they share most of their code.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/pflag"
)

const usage = `usage: controlplane VERB [flags]

  serve     run a kube-apiserver with its own etcd on 127.0.0.1
  kubectl   the stock kubectl (also when this binary is called kubectl)
  referee   set up pod volumes with the kubelet's own plugins, driven by JSON lines
  follow    print a configuration file again whenever it changes

'controlplane VERB --help' says more.
`

// The main goroutine stays on the main thread until main says otherwise: endWithParent needs it there.
func init() { runtime.LockOSThread() }

func main() {
	if filepath.Base(os.Args[0]) == "kubectl" {
		runtime.UnlockOSThread()
		kubectl(os.Args[1:])
		return
	}
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	verb, args := os.Args[1], os.Args[2:]
	var run func([]string) error
	switch verb {
	case "serve":
		run = serve
	case "referee":
		run = referee
	case "follow":
		run = follow
	case "kubectl":
		runtime.UnlockOSThread()
		kubectl(args)
		return
	case "help", "-h", "--help":
		fmt.Print(usage)
		return
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	endWithParent()
	if verb != "referee" { // which leaves threads in other mount namespaces: never the main one, by which /proc/PID shows the process
		runtime.UnlockOSThread()
	}
	if err := run(args); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "controlplane %s: %v\n", verb, err)
		os.Exit(1)
	}
}

// flagSet gives a verb its flags, with a help text that opens with the verb's own description.
func flagSet(verb, about string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(verb, pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, "%s\n\nflags:\n%s", about, fs.FlagUsages())
	}
	return fs
}
