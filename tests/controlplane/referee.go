// The kubelet's own volume plugins, told over JSON lines which pod's volumes to set up.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const refereeAbout = `controlplane referee --kubeconfig FILE --root DIR [--node NAME] [--feature-gates A=true,...]

Sets up the secret, configMap, projected, downwardAPI and emptyDir volumes of pods below DIR as a kubelet does, with
the kubelet's own code. Needs root. One request per line on standard input, one answer per line on standard output:

  {"op":"setup","namespace":"ns","pod":"name"}      reads the pod and sets up what its containers mount
  {"op":"setup","podSpec":{...a Pod...}}            the same for a pod that the API server need not know
  {"op":"run","namespace":"ns","pod":"name"}        "setup", and then the pod's containers start, those that have not
  {"op":"restart","namespace":"ns","pod":"name","container":"c"}        one of them ends, and then "run"
  {"op":"teardown","namespace":"ns","pod":"name"}   takes away all that was set up for pods of that name

  {"volumes":{"name":{"path":"/...","error":"..."}},"error":"..."}      errors only when there are some
  {"volumes":...,"containers":{"name":{"root":"/proc/PID/fd/N","mounts":[{"path":"/v","volume":"v","subPath":false,
   "readOnly":true}],"error":"..."}}}               the answer to "run" and "restart"

Set up or run once more, a pod's volumes are refreshed: what the kubelet does about once a minute. Containers run no
program: each is a root directory in a mount namespace of its own, as a container runtime makes it, and starts when all
volumes have been set up. Takes everything away at the end of standard input, on SIGTERM, and with its parent.`

// request is one line of input.
type request struct {
	Op        string  `json:"op"`
	Namespace string  `json:"namespace"`
	Pod       string  `json:"pod"`
	PodSpec   *v1.Pod `json:"podSpec"`
	Container string  `json:"container"`
}

// answer is one line of output.
type answer struct {
	Volumes    map[string]volumeAnswer    `json:"volumes,omitempty"`
	Containers map[string]containerAnswer `json:"containers,omitempty"`
	Error      string                     `json:"error,omitempty"`
}

// volumeAnswer tells where a volume is, or would be, and why it could not be set up.
type volumeAnswer struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"`
}

func referee(args []string) (err error) {
	fs := flagSet("referee", refereeAbout)
	kubeconfig := fs.String("kubeconfig", "", "how to reach the API server")
	root := fs.String("root", "", "folder that stands for /var/lib/kubelet; made if it is not there")
	node := fs.String("node", "n1", "the node whose kubelet this is")
	gates := fs.String("feature-gates", "", "more feature gates of the kubelet, as NAME=true,NAME=false")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || *kubeconfig == "" || *root == "" {
		return errors.New("give --kubeconfig and --root, and nothing but flags")
	}
	for _, gate := range featureGates(*gates) {
		if err := utilfeature.DefaultMutableFeatureGate.Set(gate); err != nil {
			return err
		}
	}
	// What goes wrong is in the answers.
	klog.SetLogger(logr.Discard())
	unix.Umask(0o022)
	absolute, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	client, err := clientFrom(*kubeconfig)
	if err != nil {
		return err
	}
	mounts, err := newPodMounts(client, absolute, *node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mounts.takeAllAway()) }()

	ctx, cancel := lifetime()
	defer cancel()
	return answerRequests(ctx, client, mounts)
}

// answerRequests works one request after the other until there are no more, or until it is told to end.
func answerRequests(ctx context.Context, client kubernetes.Interface, mounts *podMounts) error {
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		for input := bufio.NewReader(os.Stdin); ; {
			line, err := input.ReadBytes('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case line, more := <-lines:
			if !more {
				return nil
			}
			if err := out.Encode(handle(ctx, client, mounts, line)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func handle(ctx context.Context, client kubernetes.Interface, mounts *podMounts, line []byte) answer {
	var r request
	err := json.Unmarshal(line, &r)
	if err != nil {
		return answer{Error: "not a request: " + err.Error()}
	}
	var done answer
	switch r.Op {
	case "setup", "run", "restart":
		pod := r.PodSpec
		if pod == nil {
			pod, err = client.CoreV1().Pods(r.Namespace).Get(ctx, r.Pod, metav1.GetOptions{})
		} else {
			fillIn(pod)
		}
		if err != nil {
			break
		}
		switch r.Op {
		case "run":
			done.Volumes, done.Containers = mounts.sync(ctx, pod)
		case "restart":
			done.Volumes, done.Containers = mounts.restart(ctx, pod, r.Container)
		default:
			done.Volumes = mounts.setUp(pod)
		}
	case "teardown":
		err = mounts.takeAway(r.Namespace, r.Pod)
	default:
		err = fmt.Errorf("no such op: %q", r.Op)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return done
}

func clientFrom(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.Timeout = 15 * time.Second
	return kubernetes.NewForConfig(config)
}
