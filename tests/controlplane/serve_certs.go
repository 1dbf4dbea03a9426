// The certificates and keys of a served cluster: made once, found again at the next start.

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"
)

const (
	caCertFile               = "ca.crt"
	caKeyFile                = "ca.key"
	servingCertFile          = "apiserver.crt"
	servingKeyFile           = "apiserver.key"
	serviceAccountKeyFile    = "sa.key"
	serviceAccountPublicFile = "sa.pub"
)

// loadOrMakeCertificates returns the CA's certificate. It is written last: when it is there, all files are.
func loadOrMakeCertificates() ([]byte, error) {
	caCert, err := os.ReadFile(caCertFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeCertificates()
	}
	return caCert, err
}

func makeCertificates() ([]byte, error) {
	caKey, err := newKey(caKeyFile)
	if err != nil {
		return nil, err
	}
	servingKey, err := newKey(servingKeyFile)
	if err != nil {
		return nil, err
	}
	tokenKey, err := newKey(serviceAccountKeyFile)
	if err != nil {
		return nil, err
	}
	tokenPublic, err := x509.MarshalPKIXPublicKey(tokenKey.Public())
	if err != nil {
		return nil, err
	}
	if err := writePEM(serviceAccountPublicFile, "PUBLIC KEY", tokenPublic, 0o644); err != nil {
		return nil, err
	}

	ca := certificate("secretfs test CA")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	serving := certificate("kube-apiserver")
	serving.KeyUsage = x509.KeyUsageDigitalSignature
	serving.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serving.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	serving.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 0, 0, 1)}

	for _, one := range []struct {
		path     string
		template *x509.Certificate
		key      *ecdsa.PrivateKey
	}{{servingCertFile, serving, servingKey}, {caCertFile, ca, caKey}} {
		der, err := x509.CreateCertificate(rand.Reader, one.template, ca, one.key.Public(), caKey)
		if err != nil {
			return nil, err
		}
		if err := writePEM(one.path, "CERTIFICATE", der, 0o644); err != nil {
			return nil, err
		}
	}
	return os.ReadFile(caCertFile)
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand never fails on Linux
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
	}
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
