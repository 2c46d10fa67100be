#!/bin/sh
# Second process of the emulated machine, in the host's files: what a system has when it runs, then the command.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
for dir in /run /tmp /dev/shm; do mount -t tmpfs tmpfs $dir; done
mount -t tmpfs cgroup /sys/fs/cgroup
mkdir -p /run/netns /run/lock /lib/modules
word() { tr ' ' '\n' < /proc/cmdline | sed -n "s/^$1=//p"; }
ln -sfn "$(word kernel_modules)" "/lib/modules/$(uname -r)"
ip link set lo up
cd "$(word repository)" || exit 1
sh /.command
echo "
EMULATED-EXIT $?"
sync
busybox poweroff -f
