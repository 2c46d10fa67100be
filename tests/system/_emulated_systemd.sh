# Runs inside the emulated machine: a systemd of its own (process 1 of a namespace) boots a host with tortie's package.
# $1 is the package. Prints a line `ok …` for all that holds; the first thing that does not ends it.
set -eu
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd /var/log/journal
dpkg -i "$1" > /run/dpkg.log 2>&1 || { cat /run/dpkg.log; exit 1; }
ip link add lan0 type dummy
ip address add 192.0.2.7/24 dev lan0
ip link set lan0 up
cat > /etc/tortie/tortie.env <<EOF
TORTIE_DATASTORE=embedded
NODENAME=host
IP=192.0.2.7/24
CALICO_IPV4POOL_CIDR=10.65.0.0/16
CALICO_IPV4POOL_IPIP=Never
EOF

# What the host boots into: ours, the network as a stand-in, then the look at it all.
cat > /etc/systemd/system/network-stand-in.service <<EOF
[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
EOF
cat > /etc/systemd/system/look.service <<EOF
[Unit]
After=tortie.service network-stand-in.service
[Service]
Type=oneshot
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
TimeoutStartSec=infinity
ExecStart=/bin/sh /run/look.sh
ExecStopPost=/bin/sh -c 'echo \$EXIT_STATUS > /run/looked; kill -RTMIN+4 1'
EOF
cat > /etc/systemd/system/lab.target <<EOF
[Unit]
Requires=basic.target
After=basic.target
Wants=tortie.service tortie-bird.path network-stand-in.service look.service
EOF

cat > /run/look.sh <<'LOOK'
set -eu
entered() { systemctl show -P ActiveEnterTimestampMonotonic "$1"; }
wait_for() { # what, then words that succeed in the end
  what=$1; shift
  for _ in $(seq 150); do if "$@" > /dev/null 2>&1; then echo "ok $what"; return; fi; sleep 0.2; done
  echo "NOT $what"; curl -s http://127.0.0.1:9099/readiness || true; systemctl status --no-pager -l tortie tortie-bird tortie-store || true; journalctl -b --no-pager -n 40 || true
  exit 1
}
is() { if "$@" > /dev/null; then :; else echo "NOT: $*"; exit 1; fi; }

is systemctl is-active tortie.service tortie-store.service
[ "$(entered tortie.service)" -le "$(entered network-stand-in.service)" ]
rules() { iptables-legacy-save; iptables-nft-save; }
echo "ok the network waits for us"
wait_for "rules are in the kernel" sh -c '(iptables-legacy-save; iptables-nft-save) | grep cali-INPUT'
wait_for "BIRD is started by the path unit" systemctl is-active tortie-bird.service
wait_for "the node is ready" curl -fsS http://127.0.0.1:9099/readiness
is tortie ctl get node host
bird=$(systemctl show -P MainPID tortie-bird.service) store=$(systemctl show -P MainPID tortie-store.service)
systemctl restart tortie.service
wait_for "the node is ready after a restart" curl -fsS http://127.0.0.1:9099/readiness
[ "$bird $store" = "$(systemctl show -P MainPID tortie-bird.service) $(systemctl show -P MainPID tortie-store.service)" ]
echo "ok BIRD and the store run on over a restart"
kill -9 "$(systemctl show -P MainPID tortie.service)"
wait_for "a killed node is started again" sh -c '[ "$(systemctl show -P NRestarts tortie.service)" -ge 1 ] && curl -fsS http://127.0.0.1:9099/readiness'
[ "$(ps -o comm= -p "$(systemctl show -P MainPID tortie.service)")" = calico-felix ] ||
  grep -q calico-felix "/proc/$(systemctl show -P MainPID tortie.service)/cmdline"
journalctl -u tortie.service -o cat --no-pager | grep -q '"msg":"started"'
echo "ok the journal has our lines"
if journalctl -b --no-pager | grep -iE 'tortie.*(denied|not permitted|EPERM)'; then echo "NOT: the unit forbids what is needed"; exit 1; fi
echo "ok nothing that it needs is forbidden"
dpkg -r tortie > /run/remove.log 2>&1 || { cat /run/remove.log; exit 1; }
if rules | grep cali || ipset list -n | grep cali; then echo "NOT: rules are left"; exit 1; fi
if systemctl is-active tortie.service tortie-store.service tortie-bird.service; then echo "NOT: units are left"; exit 1; fi
echo "ok removing the package stops everything and leaves no rule"
LOOK
env -i container=lab PATH="$PATH" unshare --pid --fork --mount --mount-proc \
  /lib/systemd/systemd --unit=lab.target --log-target=console --show-status=0 --log-level=warning || true
exit "$(cat /run/looked)"
