#!/bin/sh
# A mount of your own at login, where there is no systemctl --user. In ~/.profile:
#   SECRETFS_SOURCE=secret/mysecret SECRETFS_DIR=$HOME/mysec sh /usr/share/doc/secretfs/login.sh
# A cluster that is away does not keep you from logging in; a mount that is there already stays.
dir=${SECRETFS_DIR:-$HOME/k8s}
mkdir -p "$dir"
# What a daemon that was killed has left.
secretfs umount --stale > /dev/null 2>&1
findmnt --mountpoint "$dir" --types fuse.secretfs > /dev/null && exit 0
# shellcheck disable=SC2086 # Words: SOURCE may be left out, and there may be several options.
secretfs mount ${SECRETFS_OPTIONS:-} ${SECRETFS_SOURCE:-} "$dir" || exit 0
