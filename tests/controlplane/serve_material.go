// Who is who in a served cluster: tokens, kubeconfigs and the files that the API server reads at its start.

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	tokensFile      = "tokens.csv"
	auditPolicyFile = "audit-policy.yaml"

	adminUser     = "admin"
	readinessUser = "controlplane:readiness" // not in the audit log
	plainUsers    = 64
)

var nodes = []string{"n1", "n2", "n3"}

// material is what stays the same when the API server starts again in the same folder.
type material struct {
	caCert []byte
	tokens map[string]string // user name to token
}

func (m *material) token(user string) string { return m.tokens[user] }

func loadOrMakeMaterial() (*material, error) {
	caCert, err := loadOrMakeCertificates()
	if err != nil {
		return nil, err
	}
	tokens, err := loadOrMakeTokens()
	if err != nil {
		return nil, err
	}
	if err := writeFile(auditPolicyFile, []byte(auditPolicy), 0o644); err != nil {
		return nil, err
	}
	return &material{caCert, tokens}, nil
}

// loadOrMakeTokens keeps the API server's token file: token,user,uid and, where there are any, groups.
func loadOrMakeTokens() (map[string]string, error) {
	text, err := os.ReadFile(tokensFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = newTokens()
		if err == nil {
			err = writeFile(tokensFile, text, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	reader := csv.NewReader(bytes.NewReader(text))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, err
	}
	tokens := map[string]string{}
	for _, row := range rows {
		tokens[row[1]] = row[0]
	}
	return tokens, nil
}

func newTokens() ([]byte, error) {
	rows := [][]string{
		{rand.Text(), adminUser, "uid-admin", "system:masters"},
		{rand.Text(), readinessUser, "uid-readiness", "system:masters"},
	}
	for _, node := range nodes {
		rows = append(rows, []string{rand.Text(), nodeUser(node), "uid-node-" + node, "system:nodes"})
	}
	for i := range plainUsers {
		rows = append(rows, []string{fmt.Sprintf("token-user-%02d", i), fmt.Sprintf("user-%02d", i), fmt.Sprintf("uid-user-%02d", i)})
	}
	var text bytes.Buffer
	err := csv.NewWriter(&text).WriteAll(rows)
	return text.Bytes(), err
}

func nodeUser(node string) string { return "system:node:" + node }

func (m *material) writeKubeconfigs(url string) error {
	if err := m.writeKubeconfig("admin.kubeconfig", adminUser, url); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := m.writeKubeconfig("node-"+node+".kubeconfig", nodeUser(node), url); err != nil {
			return err
		}
	}
	return nil
}

func (m *material) writeKubeconfig(path, user, url string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: m.caCert}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: m.token(user)}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: user}
	config.CurrentContext = "test"
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	return writeFile(path, text, 0o600)
}

// writeFile puts a whole file in place at once.
func writeFile(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // fails when all went well: it has its own name then
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
