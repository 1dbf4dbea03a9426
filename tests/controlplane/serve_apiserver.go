// The kube-apiserver itself: its flags, its run, and the moment from which it can be used.

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	basecompatibility "k8s.io/component-base/compatibility"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// auditPolicy logs every request but those that the API server makes to itself and those of our own readiness
// check. A long request (a watch) has a line when it starts and one when it ends.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:apiserver, ` + readinessUser + `]
- level: Metadata
`

// apiServerFlags are the flags of every run; the last of two equal flags wins, so the caller's come after them.
func apiServerFlags(gates string, extra []string) []string {
	return append([]string{
		"--etcd-servers=" + etcdSocket,
		"--etcd-compaction-interval=0",
		"--tls-cert-file=" + servingCertFile,
		"--tls-private-key-file=" + servingKeyFile,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + serviceAccountKeyFile,
		"--service-account-key-file=" + serviceAccountPublicFile,
		"--token-auth-file=" + tokensFile,
		"--anonymous-auth=false",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--endpoint-reconciler-type=none",
		"--allow-privileged=true",
		"--profiling=false",
		"--audit-log-path=audit.log",
		"--audit-log-maxsize=100000", // MB: one file, whatever the run does
		"--audit-policy-file=" + auditPolicyFile,
		"--feature-gates=" + strings.Join(featureGates(gates), ","),
	}, extra...)
}

// featureGates adds the caller's gates to ours; the last word on a gate wins.
func featureGates(more string) []string {
	gates := []string{"AtomicWriteVolumeUserFields=true"} // KEP-5936: owners of files in volumes
	if more != "" {
		gates = append(gates, more)
	}
	return gates
}

// runAPIServer serves on the listener until the context ends.
func runAPIServer(ctx context.Context, listener net.Listener, gates string, extra []string) error {
	server := options.NewServerRunOptions()
	fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, section := range server.Flags().FlagSets {
		fs.AddFlagSet(section)
	}
	if err := fs.Parse(apiServerFlags(gates, extra)); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	server.SecureServing.Listener = listener
	server.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	server.SecureServing.BindAddress = net.IPv4(127, 0, 0, 1)

	registry := server.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return err
	}
	if err := logsapi.ValidateAndApply(server.Logs, registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
		return err
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	completed, err := server.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	return app.Run(ctx, completed)
}

// waitUsable returns when the API server says that it is ready and the namespaces are there that it makes itself.
func waitUsable(ctx context.Context, url string, m *material) error {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host:            url,
		BearerToken:     m.token(readinessUser),
		TLSClientConfig: rest.TLSClientConfig{CAData: m.caCert},
		QPS:             -1,
		Timeout:         5 * time.Second,
	})
	if err != nil {
		return err
	}
	// Our connections must not be among those that a stop waits for.
	defer client.RESTClient().(*rest.RESTClient).Client.CloseIdleConnections()
	deadline := time.Now().Add(startTime)
	for {
		err := usable(ctx, client)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the API server is not usable in time: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func usable(ctx context.Context, client kubernetes.Interface) error {
	var code int
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code).Error(); err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", code)
	}
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespaceDefault} {
		if err := ensureNamespace(ctx, client, name); err != nil {
			return err
		}
	}
	return nil
}

// ensureNamespace makes a namespace that the API server's own controllers would make a moment later.
func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	_, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		namespace := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err = client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			err = nil
		}
	}
	return err
}
