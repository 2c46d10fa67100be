/** Faults of a cluster and of its hosts, each made from outside, with what the doctor of host h1 has to say of it. */
import { cniBinDir, cniConfDir } from "../lab/containerd.ts";
import type { Host, HostProcess } from "../lab/host.ts";
import type { Overlay, OverlayPod } from "../lab/overlay.ts";

/** Where faults are made. */
export interface Sick extends Overlay {
  pods: OverlayPod[];
  /** Programs that a fault has started. */
  started: HostProcess[];
}

/** One fault. */
export interface Fault {
  /** The check that finds it. */
  check: string;
  /** What its sentence says. */
  says: RegExp;
  inject(world: Sick): Promise<unknown>;
  cure(world: Sick): Promise<unknown>;
}

/** Faults that do not hide each other, so that one look finds all of them. */
export interface Group {
  name: string;
  faults: Fault[];
  /** They are made all at once; else one after the other. */
  atOnce?: boolean;
  /** The agent of h1 is stopped (SIGSTOP) meanwhile: running, it repairs these within a second. */
  agentStopped?: boolean;
  /** Checks that find something as a consequence, too. */
  also?: string[];
}

const h1 = (world: Sick): Host => world.lab.hosts[0]!, h2 = (world: Sick): Host => world.lab.hosts[1]!;
/** Runs a line of shell on a host. */
const sh = (host: Host, line: string) => host.runOk("sh", ["-ec", line]);
const resources = "/calico/resources/v3/projectcalico.org", ipam = "/calico/ipam/v2";
const put = ({ etcd }: Sick, key: string, value: unknown) => etcd.etcdctl("put", key, JSON.stringify(value));
const del = ({ etcd }: Sick, key: string) => etcd.etcdctl("del", key);

/** A fault that a value in etcd is. */
const value = (check: string, says: RegExp, key: string, content: unknown): Fault => ({
  ...{ check, says },
  inject: (world) => put(world, key, content),
  cure: (world) => del(world, key),
});

/** A fault that one line of shell on h1 makes, and another one ends. */
const line = (check: string, says: RegExp, inject: string, cure: string): Fault => ({
  ...{ check, says },
  inject: (world) => sh(h1(world), inject),
  cure: (world) => sh(h1(world), cure),
});

let uids = 0;
const object = (kind: string, name: string, spec: unknown, namespace?: string) => ({
  ...{ kind, apiVersion: "projectcalico.org/v3", spec },
  metadata: { name, namespace, uid: `uid-${++uids}`, creationTimestamp: "2026-01-02T03:04:05Z" },
});
const node = (name: string, spec: unknown) => ({
  key: `${resources}/nodes/${name}`,
  content: object("Node", name, spec),
});

/** A block; addresses that `given` names are reserved for Windows, which uses them without an endpoint. */
function block(
  cidr: string,
  affinity: string,
  size: number,
  { given, unallocated }: { given?: number; unallocated?: number } = {},
) {
  const first = given ?? 0;
  const reserved = { handle_id: "windows-reserved-ipam-handle", secondary: {} };
  return {
    ...{ cidr, affinity, deleted: false, sequenceNumber: 1, sequenceNumberForAllocation: {} },
    allocations: Array.from({ length: size }, (_, i) => (i < first ? 0 : null)),
    unallocated: Array.from({ length: unallocated ?? size - first }, (_, i) => first + i),
    attributes: first > 0 ? [reserved] : [],
  };
}
const blockKey = (cidr: string) => `${ipam}/assignment/ipv4/block/${cidr.replace("/", "-")}`;

const twin = { bgp: { ipv4Address: "172.30.0.99/24" }, ipv4VXLANTunnelAddr: "10.244.250.1" };
const nodes = { h7: node("h7", twin), h8: node("h8", twin), h9: node("h9", {}) };

const inTheDatastore: Group = {
  name: "values in the datastore",
  atOnce: true,
  also: [
    "object-refused",
    "address-unrecorded",
    "address-twice",
    "session-down",
    "node-unreachable",
    "policy-not-in-force",
  ],
  faults: [
    value("value-unreadable", /^IPPool\(broken\) cannot be read: /, `${resources}/ippools/broken`, {
      ...object("IPPool", "broken", { cidr: 5 }),
    }),
    value("node-without-address", /^node h9 has no address/, nodes.h9.key, nodes.h9.content),
    {
      check: "node-address-twice",
      says: /^nodes h7, h8 have the same address 172\.30\.0\.99$/,
      inject: async (world) => {
        for (const { key, content } of [nodes.h7, nodes.h8]) await put(world, key, content);
      },
      cure: async (world) => {
        for (const { key } of [nodes.h7, nodes.h8]) await del(world, key);
      },
    },
    line("tunnel-address-twice", /^nodes h7, h8 have the same tunnel address 10\.244\.250\.1$/, "true", "true"),
    value(
      "host-endpoint-nowhere",
      /^host endpoint lost is for interface eth9, and this host has none/,
      `${resources}/hostendpoints/lost`,
      object("HostEndpoint", "lost", { node: "h1", interfaceName: "eth9" }),
    ),
    value(
      "endpoint-of-gone-node",
      /^workload endpoint default\/gone-k8s-p-eth0 is on node gone/,
      `${resources}/workloadendpoints/default/gone-k8s-p-eth0`,
      object("WorkloadEndpoint", "gone-k8s-p-eth0", {
        ...{ orchestrator: "k8s", node: "gone", pod: "p", endpoint: "eth0", interfaceName: "cali1" },
        ipNetworks: ["10.244.77.7/32"],
      }, "default"),
    ),
    value(
      "selector-invalid",
      /^GlobalNetworkPolicy\(open\) has a selector that cannot be read, spec\.ingress\[0\]\.source\.selector: /,
      `${resources}/globalnetworkpolicies/default.open`,
      object("GlobalNetworkPolicy", "default.open", {
        ...{ tier: "default", selector: "never == 'there'", types: ["Ingress"] },
        ingress: [{ action: "Allow", source: { selector: "has(" } }],
      }),
    ),
    value(
      "tier-missing",
      /^GlobalNetworkPolicy\(nowhere\.a\) is in tier nowhere, which does not exist/,
      `${resources}/globalnetworkpolicies/nowhere.a`,
      object("GlobalNetworkPolicy", "nowhere.a", { tier: "nowhere", selector: "never == 'there'", types: ["Ingress"] }),
    ),
    value("handle-idle", /^handle nobody names no address$/, `${ipam}/handle/nobody`, { block: {}, deleted: false }),
    value(
      "block-of-gone-node",
      /^block 10\.244\.88\.0\/26 belongs to node gone/,
      blockKey("10.244.88.0/26"),
      block("10.244.88.0/26", "host:gone", 64),
    ),
    value(
      "affinity-differs",
      /^node h2 claims block 10\.244\.88\.0\/26, which belongs to node gone$/,
      `${ipam}/host/h2/ipv4/block/10.244.88.0-26`,
      { state: "confirmed", deleted: false },
    ),
    value(
      "block-broken",
      /^block 10\.244\.89\.0\/26 contradicts itself: expected 64 addresses/,
      blockKey("10.244.89.0/26"),
      block("10.244.89.0/26", "host:gone", 64, { unallocated: 5 }),
    ),
    value(
      "pool-nearly-full",
      /^pool 10\.99\.0\.0\/30 has 0 of 4 addresses left$/,
      `${resources}/ippools/tiny`,
      object("IPPool", "tiny", {
        cidr: "10.99.0.0/30",
        blockSize: 30,
        nodeSelector: "all()",
        allowedUses: ["Workload"],
      }),
    ),
    value(
      "block-of-gone-node",
      /10\.99\.0\.0\/30/,
      blockKey("10.99.0.0/30"),
      block("10.99.0.0/30", "host:gone", 4, { given: 4 }),
    ),
    {
      check: "address-leaked",
      says: /^10\.244\.\d+\.\d+ is given and nobody uses it: no workload endpoint has it$/,
      inject: (world) => del(world, `${resources}/workloadendpoints/default/h2-cni-c--spare-eth0`),
      cure: (world) => world.pods[2]!.remove(),
    },
  ],
};

const onTheHost: Group = {
  name: "what others do to the host",
  also: ["policy-not-in-force"],
  faults: [
    line(
      "route-foreign",
      /^a route of somebody else lies in pool \S+: 10\.244\.99\.0\/28 dev eth0$/,
      "ip route add 10.244.99.0/28 via 172.30.0.1",
      "ip route del 10.244.99.0/28",
    ),
    line(
      "pool-overlaps-host",
      /^pool \S+ \(10\.244\.0\.0\/16\) overlaps the network 10\.244\.200\.1\/24 of eth0/,
      "ip addr add 10.244.200.1/24 dev eth0",
      "ip addr del 10.244.200.1/24 dev eth0",
    ),
    line(
      "flows-nearly-full",
      /^9 of 9 flows are tracked/,
      "echo 9 > /run/nine; for f in count max; do mount --bind /run/nine /proc/sys/net/netfilter/nf_conntrack_$f; done",
      "for f in count max; do umount /proc/sys/net/netfilter/nf_conntrack_$f; done",
    ),
    line(
      "disk-full",
      /^the file system of \/var\/lib\/tortie is 100 % full/,
      "mount -t tmpfs -o size=64k full /var/lib/tortie; head -c 64k /dev/zero > /var/lib/tortie/ballast || true",
      "umount /var/lib/tortie",
    ),
    line(
      "program-missing",
      /^the program ipset is not installed$/,
      "mv /usr/sbin/ipset /usr/sbin/ipset.gone",
      "mv /usr/sbin/ipset.gone /usr/sbin/ipset",
    ),
    line(
      "rp-filter-strict",
      /on at vxlan\.calico/,
      "sysctl -qw net/ipv4/conf/vxlan.calico/rp_filter=1",
      "sysctl -qw net/ipv4/conf/vxlan.calico/rp_filter=0",
    ),
    line(
      "both-variants",
      /the (nft|legacy) variant filters, too \(FORWARD: -A FORWARD -s 203\.0\.113\.1/,
      otherVariant("-A"),
      otherVariant("-D"),
    ),
    line(
      "nft-drops",
      /^nftables' table inet other may drop packets in its chain f \(forward: policy drop\)/,
      "nft 'add table inet other; add chain inet other f { type filter hook forward priority 10; policy drop; }'",
      "nft delete table inet other",
    ),
    {
      check: "stranger-running",
      says: /^\/usr\/local\/bin\/calico-node \(process \d+\) runs beside us/,
      async inject(world) {
        await sh(h1(world), "cp /bin/sleep /usr/local/bin/calico-node");
        world.started.push(await h1(world).start("stranger", "/usr/local/bin/calico-node", ["600"]));
      },
      cure: (world) => world.started.pop()!.kill(),
    },
    {
      check: "tunnel-blocked",
      says: /^node h2 answers at 172\.30\.0\.12 and not through vxlan\.calico at 10\.244\./,
      inject: (world) =>
        sh(
          h2(world),
          "nft 'add table inet wall; add chain inet wall c { type filter hook prerouting priority -400; }; add rule inet wall c udp dport 4789 drop'",
        ),
      cure: (world) => sh(h2(world), "nft delete table inet wall"),
    },
  ],
};

/** Adds or removes a rule of the variant of iptables that the agent does not use. */
function otherVariant(how: "-A" | "-D"): string {
  return `if iptables-nft-save -t filter 2>/dev/null | grep -q -- '-j cali-FORWARD'; then o=legacy; else o=nft; fi
    iptables-$o ${how} FORWARD -s 203.0.113.1 -j DROP`;
}

const ofTheRuntime: Group = {
  name: "what the container runtime finds",
  faults: [
    line(
      "cni-config-shadowed",
      /\/etc\/cni\/net\.d\/00-other\.conf sorts before 10-calico\.conflist/,
      `echo '{"name": "other", "type": "bridge"}' > ${cniConfDir}/00-other.conf`,
      `rm ${cniConfDir}/00-other.conf`,
    ),
    line(
      "cni-config-unreadable",
      /99-x\.conf cannot be read/,
      `echo '{' > ${cniConfDir}/99-x.conf`,
      `rm ${cniConfDir}/99-x.conf`,
    ),
    line(
      "cni-plugin-missing",
      /calico-ipam does not exist/,
      `mv ${cniBinDir}/calico-ipam /run/`,
      `mv /run/calico-ipam ${cniBinDir}/`,
    ),
    line(
      "cni-dir-elsewhere",
      /^\/etc\/containerd\/config\.toml lets the runtime look into \/etc\/cni\/other/,
      `mkdir -p /etc/containerd; f=/etc/containerd/config.toml; if [ -e $f ]; then cp $f /run/was; fi; echo '  conf_dir = "/etc/cni/other"' > $f`,
      "f=/etc/containerd/config.toml; if [ -e /run/was ]; then mv /run/was $f; else rm $f; fi",
    ),
    line(
      "credential-unusable",
      /^\/etc\/cni\/net\.d\/gone, for the Kubernetes API, by the plugin, cannot be used: /,
      `cp ${cniConfDir}/10-calico.conflist /run/conflist
       sed -i 's|"type":"calico",|&"kubernetes":{"kubeconfig":"/etc/cni/net.d/gone"},"etcd_cert_file":"/run/soon.pem",|' ${cniConfDir}/10-calico.conflist`,
      `mv /run/conflist ${cniConfDir}/10-calico.conflist`,
    ),
    line(
      "credential-expiring",
      /^\/run\/soon\.pem, for etcd, by the plugin, expires in \d day/,
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=a -days 3 -out /run/soon.pem 2>/dev/null",
      "rm /run/soon.pem",
    ),
  ],
};

const noConfiguration: Group = {
  name: "no configuration for the runtime, and another name for the host",
  also: ["node-unreachable", "endpoint-route-missing", "route-missing"],
  faults: [
    line(
      "cni-config-missing",
      /names our plugin/,
      `mv ${cniConfDir}/10-calico.conflist /run/`,
      `mv /run/10-calico.conflist ${cniConfDir}/`,
    ),
    line(
      "node-name-stale",
      /^\/var\/lib\/calico\/nodename says old-name, and there is no such Node, while there is one called h1$/,
      "cp /var/lib/calico/nodename /run/nodename; echo old-name > /var/lib/calico/nodename",
      "cp /run/nodename /var/lib/calico/nodename",
    ),
    line("node-missing", /^there is no Node old-name/, "true", "true"),
    line("agent-other-node", /^the agent serves node h1, and this host is called old-name$/, "true", "true"),
  ],
};

const onTheWay: Group = {
  name: "what is between the hosts",
  also: ["agent-not-ready"],
  faults: [
    {
      check: "mtu-black-hole",
      says: /^node h2 gets small packets and none of 1500 bytes, though eth0 takes them/,
      inject: ({ lab }) => lab.wire.ip("link set h2 mtu 1400"),
      cure: ({ lab }) => lab.wire.ip("link set h2 mtu 1500"),
    },
    {
      check: "session-down",
      says: /^the BGP session with 172\.30\.0\.12 \(Mesh_172_30_0_12\) is /,
      inject: (world) => sh(h2(world), "birdc -s /run/tortie/bird.ctl disable Mesh_172_30_0_11"),
      cure: (world) => sh(h2(world), "birdc -s /run/tortie/bird.ctl enable Mesh_172_30_0_11"),
    },
    {
      check: "datastore-locked",
      says: /datastoreReady false/,
      inject: ({ nodes }) => nodes[0]!.ctl("datastore", "migrate", "lock"),
      cure: ({ nodes }) => nodes[0]!.ctl("datastore", "migrate", "unlock"),
    },
  ],
};

const tunnelAddress = "$(ip -4 -o addr show vxlan.calico | awk '{print $4}')";
const underTheAgent: Group = {
  name: "drift under an agent that is stopped",
  agentStopped: true,
  also: ["tunnel-blocked", "session-down"],
  faults: [
    line(
      "agent-silent",
      /^the agent does not answer at \/run\/tortie\/agent\.sock: no answer within 3000 ms$/,
      "true",
      "true",
    ),
    line(
      "forwarding-off",
      /^net\/ipv4\/ip_forward is 0/,
      "sysctl -qw net.ipv4.ip_forward=0",
      "sysctl -qw net.ipv4.ip_forward=1",
    ),
    line(
      "jump-not-first",
      /of Docker stand before ours in FORWARD .*DOCKER-USER/,
      ours("-N DOCKER-USER; $i -I FORWARD -j DOCKER-USER"),
      ours("-D FORWARD -j DOCKER-USER; $i -X DOCKER-USER"),
    ),
    line("jump-missing", /^OUTPUT of (nft|legacy) iptables does not lead to cali-OUTPUT/, ours("-F OUTPUT"), "true"),
    line(
      "forward-drop",
      /^FORWARD of (nft|legacy) iptables drops what no rule accepts/,
      ours("-P FORWARD DROP; n=$($i -S FORWARD | grep -n -- '-j ACCEPT' | cut -d: -f1); $i -D FORWARD $((n-1))"),
      ours("-P FORWARD ACCEPT"),
    ),
    line(
      "endpoint-route-missing",
      /^workload endpoint default\/h1-cni-c--one-eth0 \(10\.244\.\S+\) has no route to calic-one$/,
      "ip route del $(ip route | grep calic-one | cut -d' ' -f1)",
      "true",
    ),
    line(
      "route-missing",
      /^there is no route to 10\.244\.\S+, the block of node h2$/,
      "ip route flush dev vxlan.calico; ip route flush proto bird",
      "true",
    ),
    line(
      "bird-config-edited",
      /^\/run\/tortie\/bird\.conf was changed by hand$/,
      "cp /run/tortie/bird.conf /run/conf; sed -i '1i # by hand' /run/tortie/bird.conf",
      "cp /run/conf /run/tortie/bird.conf",
    ),
    line(
      "deletions-pending",
      /^1 deletion\(s\) of pods have not reached the datastore/,
      pendingDelete(),
      "rm -f /var/lib/tortie/pending-del/*",
    ),
    line("bird-away", /^BIRD does not answer/, "kill -9 $(cat /run/tortie/bird.pid)", "true"),
    line(
      "tunnel-differs",
      /^vxlan\.calico has the network number 4097 where 4096 is wanted$/,
      `a=${tunnelAddress}; ip link del vxlan.calico
       ip link add vxlan.calico mtu 1450 type vxlan id 4097 local 172.30.0.11 dev eth0 dstport 4789 nolearning
       ip addr add $a dev vxlan.calico; ip link set vxlan.calico up`,
      "true",
    ),
  ],
};

/** A line of iptables of the variant that the agent uses; further ones say `$i`. */
function ours(words: string): string {
  return `i=iptables-legacy; if iptables-nft-save -t filter 2>/dev/null | grep -q -- '-j cali-FORWARD'; then i=iptables-nft; fi; $i ${words}`;
}

function pendingDelete(): string {
  const entry = JSON.stringify({
    attachment: { network: "k8s-pod-network", containerId: "c-old", ifName: "eth0" },
    ...{ because: "delete", time: "2026-01-02T03:04:05Z" },
  });
  return `echo '${entry}' > /var/lib/tortie/pending-del/k8s-pod-network.c-old.eth0.json`;
}

const noTunnel: Group = {
  name: "a tunnel that is down, and a BIRD that somebody else has configured",
  agentStopped: true,
  also: ["agent-silent", "route-missing", "session-down", "tunnel-blocked", "bird-text-stale", "mtu-black-hole"],
  faults: [
    line(
      "tunnel-missing",
      /asks for VXLAN, and this host has no device vxlan\.calico that is up$/,
      "ip link set vxlan.calico down",
      "ip link set vxlan.calico up",
    ),
    line(
      "tunnel-too-large",
      /^vxlan\.calico takes packets of 1450 bytes, and eth0 below it has room for 1350/,
      "ip link set eth0 mtu 1400",
      "ip link set eth0 mtu 1500",
    ),
    line(
      "bird-text-foreign",
      /^the BIRD that answers runs a configuration that is not ours$/,
      `echo 'router id 1.2.3.4; protocol device {}' > /run/foreign.conf; birdc -s /run/tortie/bird.ctl 'configure "/run/foreign.conf"'`,
      `birdc -s /run/tortie/bird.ctl 'configure "/run/tortie/bird.conf"'`,
    ),
  ],
};

/** All groups. */
export const groups: readonly Group[] = [
  inTheDatastore,
  onTheHost,
  ofTheRuntime,
  noConfiguration,
  onTheWay,
  underTheAgent,
  noTunnel,
];
