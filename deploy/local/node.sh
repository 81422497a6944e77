#!/bin/sh
# Makes the mount and host name namespaces that it runs in look like a machine of their own, then becomes
# the program that is to hold them open:
#
#   node.sh DATA RUN HOSTNAME PROGRAM [ARGUMENT...]
#
# kubelet, containerd and the CNI plugins keep some of their files at fixed places. Here those places are
# folders of one cluster, so that clusters side by side do not meet in them, and every mount that a pod
# causes ends with the namespace.
set -eu

data=$1
run=$2
host=$3
shift 3

# Pods may ask that mounts be propagated to them, which needs a shared tree; it is shared within this
# namespace only, because that was made private.
mount --make-rshared /

place() {
	mkdir -p "$1" "$2"
	mount --bind "$1" "$2"
}
place "$data/containerd" /var/lib/containerd
place "$data/kubelet" /var/lib/kubelet
place "$data/cni" /var/lib/cni
place "$data/pod-logs" /var/log/pods
place "$data/container-logs" /var/log/containers
place "$run/containerd" /run/containerd
place "$run/netns" /run/netns

# Where the node is to show other processors than the machine's.
if [ -d "$data/cpus" ]; then
	mkdir -p "$data/cpus/no-nodes"
	mount --bind "$data/cpus/no-nodes" /sys/devices/system/node
	mount --bind "$data/cpus/devices" /sys/devices/system/cpu
	mount --bind "$data/cpus/cpuinfo" /proc/cpuinfo
fi

echo "$host" > /proc/sys/kernel/hostname
exec "$@"
