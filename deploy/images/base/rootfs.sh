#!/bin/sh
# Makes a minimal Debian and packs it:
#
#   rootfs.sh SUITE ARCHIVE FOLDER
#
# To be run in a mount namespace of its own (unshare --mount): the folder becomes a file system in memory,
# which spares a disk the thousand syncs of a package manager, and nothing that is mounted here outlives it.
set -eu
suite=$1
archive=$2
root=$3

mount -t tmpfs -o mode=0755 rootfs "$root"
debootstrap --variant=minbase "$suite" "$root"
umount "$root/proc" "$root/sys" 2>/dev/null || true
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
	"$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar --create --one-file-system --numeric-owner --sort=name --mtime=@0 --exclude='./dev/*' \
	--file "$archive" --directory "$root" .
