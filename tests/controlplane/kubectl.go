// The stock kubectl, plugins included.

package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // auth providers that stock kubectl has
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// kubectl runs one kubectl command. kubectl reads os.Args itself to find plugins, so it gets the ones it expects.
func kubectl(args []string) {
	os.Args = append([]string{"kubectl"}, args...)
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
