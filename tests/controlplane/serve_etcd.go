// The etcd of the API server: one member, on Unix sockets in the working folder.

package main

import (
	"errors"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

const (
	etcdData   = "etcd"
	etcdSocket = "unix://etcd.sock"
)

func startEtcd() (*embed.Etcd, error) {
	client, err := url.Parse(etcdSocket)
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse("unix://etcd-peer.sock")
	if err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Dir = etcdData
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.EnableGRPCGateway = false
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true // survives the death of the process, not of the machine
	config.QuotaBackendBytes = 8 << 30
	// A single member is its own leader: nothing is gained by waiting long for another.
	config.TickMs, config.ElectionMs = 10, 100

	// etcd takes the room for two segments at once, 64 MB each if not told otherwise.
	wal.SegmentSizeBytes = 8 << 20

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-etcd.Err():
	case <-time.After(startTime):
		err = errors.New("etcd is not ready in time")
	}
	etcd.Close()
	return nil, err
}
