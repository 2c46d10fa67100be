#!/bin/busybox sh
# First process of the emulated machine: finds the host's files over 9p, lays memory over them, goes on there.
/bin/busybox mkdir -p /proc /host /memory /all
/bin/busybox mount -t proc proc /proc
for module in MODULES; do /bin/busybox insmod /modules/$module.ko || echo "no module $module"; done
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose root /host
/bin/busybox mount -t tmpfs -o mode=755,size=3g memory /memory
/bin/busybox mkdir /memory/upper /memory/work
/bin/busybox mount -t overlay overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work /all
/bin/busybox cp /command /all/.command
exec /bin/busybox switch_root /all /bin/sh REPO/tests/lab/qemu/second.sh
