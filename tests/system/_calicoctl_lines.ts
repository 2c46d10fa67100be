/** A command line, and what it is fed. */
export interface Line {
  args: string[];
  stdin?: string;
  /** Why our answer is another one on purpose. */
  differs?: string;
}

const v3 = (kind: string, name: string, spec: string, more = ""): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: ${name}${more}}\nspec: ${spec}\n`;

const pool = v3("IPPool", "main", "{cidr: 10.65.0.0/16, natOutgoing: true, ipipMode: Always}");
const world = [
  v3("IPPool", "six", `{cidr: "fd65::/48"}`),
  v3("Node", "n1", "{bgp: {ipv4Address: 192.168.10.11/24}}", ", labels: {rack: a}"),
  v3("Node", "n2", "{bgp: {ipv4Address: 192.168.10.12/24, asNumber: 64999}}"),
  v3("GlobalNetworkPolicy", "deny-all", "{order: 1000, selector: all(), types: [Ingress, Egress]}"),
  v3(
    "NetworkPolicy",
    "allow-web",
    `{order: 10.5, selector: "app == 'web'", ingress: [{action: Allow, protocol: TCP, destination: {ports: [80, "8000:8080"]}}]}`,
    ", namespace: shop",
  ),
  v3("GlobalNetworkSet", "bad", "{nets: [198.51.100.0/24, 203.0.113.7]}", ", labels: {role: bad}"),
  v3("BGPPeer", "tor", "{peerIP: 192.0.2.1, asNumber: 64512}"),
  v3("BGPPeer", "rr", "{nodeSelector: has(rack), peerSelector: role == 'rr'}"),
  v3("HostEndpoint", "n1-eth0", "{node: n1, interfaceName: eth0, expectedIPs: [192.168.10.11]}"),
  v3("BGPConfiguration", "default", "{asNumber: 64600, logSeverityScreen: Info}"),
  v3("IPReservation", "kept", "{reservedCIDRs: [10.65.1.0/24]}"),
  v3("Profile", "p1", "{labelsToApply: {a: b, c: d}}"),
].join("---\n");
const list = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkSetList
items:
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkSet
  metadata: {name: s1}
  spec: {nets: [10.1.0.0/16]}
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkSet
  metadata: {name: s2}
  spec: {nets: [not-a-net]}
- apiVersion: projectcalico.org/v3
  kind: GlobalNetworkSet
  metadata: {name: s3}
  spec: {nets: [10.3.0.0/16]}
`;
const json = JSON.stringify({
  apiVersion: "projectcalico.org/v3",
  kind: "Tier",
  metadata: { name: "security" },
  spec: { order: 100 },
});

/** A session: each line sees what those before it have left. Chosen to touch every command, format and usual mistake. */
export const lines: Line[] = [
  { args: ["get", "nodes"] },
  { args: ["get", "ippools", "-o", "yaml"] },
  { args: ["create", "-f", "-"], stdin: pool },
  { args: ["create", "-f", "-"], stdin: pool },
  { args: ["create", "--skip-exists", "-f", "-"], stdin: pool },
  { args: ["apply", "-f", "-"], stdin: world },
  { args: ["apply", "-f", "-"], stdin: json },
  { args: ["apply", "-f", "-"], stdin: list },
  { args: ["create", "-f", "-"], stdin: list },
  { args: ["create", "-f", "-"], stdin: v3("IPPool", "over", "{cidr: 10.65.128.0/20}") },
  { args: ["create", "-f", "-"], stdin: v3("IPPool", "BAD_name", "{cidr: 10.99.0.0/16}") },
  { args: ["create", "-f", "-"], stdin: v3("IPPool", "odd", "{cidr: 10.99.0.0/16, blockSize: 40}") },
  { args: ["apply", "-f", "-"], stdin: v3("IPPool", "odd", "{cidr: 10.99.0.0/16, natoutgoing2: true}") },
  { args: ["apply", "-f", "-"], stdin: v3("Widget", "w", "{}") },
  { args: ["apply", "-f", "-"], stdin: v3("GlobalNetworkPolicy", "broken", "{selector: 'app =='}") },
  { args: ["apply", "-f", "-"], stdin: v3("NetworkPolicy", "nowhere", "{tier: none}") },
  { args: ["apply", "-f", "-"], stdin: v3("GlobalNetworkSet", "s9", "{}", ", namespace: shop") },
  { args: ["apply", "-n", "zzz", "-f", "-"], stdin: v3("NetworkSet", "s9", "{}", ", namespace: shop") },
  { args: ["apply", "-f", "nope.yaml"] },
  { args: ["apply", "-f", "-"], stdin: "" },
  { args: ["apply", "--skip-empty", "-f", "-"], stdin: "" },
  { args: ["validate", "-f", "-"], stdin: world },
  { args: ["validate", "-f", "-"], stdin: v3("BGPPeer", "x", "{reachableBy: 192.0.2.9}") },
  { args: ["get", "ippools", "-o", "wide"] },
  { args: ["get", "ippool", "main", "-o", "yaml"] },
  { args: ["get", "ippool", "main", "-o", "json"] },
  { args: ["get", "ippool", "main", "--export", "-o", "yaml"] },
  { args: ["get", "nodes", "-o", "wide"] },
  { args: ["get", "nodes", "n1", "n2", "-o", "yaml"] },
  { args: ["get", "nodes", "n1", "ghost", "n2"] },
  { args: ["get", "node", "ghost", "-o", "json"] },
  { args: ["get", "np"] },
  { args: ["get", "np", "-n", "shop", "-o", "wide"] },
  { args: ["get", "np", "-A"] },
  { args: ["get", "networkpolicy", "allow-web", "-n", "shop", "-o", "json"] },
  { args: ["get", "np", "-A", "-n", "shop"] },
  { args: ["get", "np", "allow-web", "-A"] },
  { args: ["get", "ippools", "-n", "shop"] },
  { args: ["get", "gnp", "-o", "wide"] },
  { args: ["get", "gnetsets", "-o", "wide"] },
  { args: ["get", "bgpp"] },
  { args: ["get", "bgpconfig"] },
  { args: ["get", "hep", "-o", "wide"] },
  { args: ["get", "tiers"] },
  { args: ["get", "profiles", "-o", "wide"] },
  { args: ["get", "clusterinfo"], differs: "the cluster's id and version are made up" },
  { args: ["get", "ippools", "-o", "custom-columns=NAME,CIDR"] },
  { args: ["get", "ippools", "-o", "custom-columns="] },
  { args: ["get", "ippools", "-o", "go-template={{range .}}{{range .Items}}{{.Name}} {{.Spec.CIDR}}\n{{end}}{{end}}"] },
  { args: ["get", "ippools", "-o", "go-template="] },
  { args: ["get", "ippools", "-o", "xml"] },
  { args: ["get", "pods"] },
  { args: ["get", "-f", "-"], stdin: pool },
  { args: ["label", "nodes", "n1", "zone=west"] },
  { args: ["label", "nodes", "n1", "rack=b"] },
  { args: ["label", "nodes", "n1", "rack=b", "--overwrite"] },
  { args: ["label", "node", "n1", "zone", "--remove"] },
  { args: ["label", "node", "n1", "zone", "--remove"] },
  { args: ["label", "node", "ghost", "a=b"] },
  { args: ["label", "node", "n1", "justkey"] },
  { args: ["label", "node", "n1"] },
  { args: ["patch", "node", "n2", "-p", `{"spec": {"bgp": {"asNumber": 65001}}}`] },
  { args: ["patch", "node", "n2", "-p", "{"] },
  { args: ["patch", "node", "ghost", "-p", "{}"] },
  { args: ["patch", "ippool", "main", "-p", `{"spec": {"cidr": "10.66.0.0/16"}}`] },
  { args: ["replace", "-f", "-"], stdin: v3("BGPPeer", "tor", "{peerIP: 192.0.2.1, asNumber: 64513}") },
  { args: ["replace", "-f", "-"], stdin: v3("BGPPeer", "ghost", "{peerIP: 192.0.2.1, asNumber: 64513}") },
  { args: ["get", "bgppeer", "tor", "-o", "yaml"] },
  { args: ["ipam", "show"] },
  { args: ["ipam", "show", "--show-blocks"] },
  { args: ["ipam", "show", "--show-borrowed"] },
  { args: ["ipam", "show", "--ip=10.65.0.1"] },
  { args: ["ipam", "show", "--ip=10.65.3"] },
  { args: ["ipam", "release", "--ip=10.65.0.1"] },
  { args: ["ipam", "configure"] },
  { args: ["ipam", "configure", "--strictaffinity=maybe"] },
  { args: ["ipam", "configure", "--max-blocks-per-host=3"] },
  { args: ["ipam", "configure", "--strictaffinity=true"] },
  { args: ["ipam", "split", "4", "--name=main"] },
  { args: ["datastore", "migrate", "export"] },
  { args: ["datastore", "migrate", "import", "-f", "x"] },
  { args: ["datastore", "migrate", "lock"] },
  { args: ["ipam", "split", "4", "--cidr=10.1.0.0/16"] },
  { args: ["ipam", "split", "2", "--name=main"] },
  { args: ["datastore", "migrate", "export"], differs: "ours prints nothing when a node has no Kubernetes name" },
  { args: ["patch", "node", "n1", "-p", `{"spec": {"orchRefs": [{"nodeName": "k1", "orchestrator": "k8s"}]}}`] },
  { args: ["patch", "node", "n2", "-p", `{"spec": {"orchRefs": [{"nodeName": "n2", "orchestrator": "k8s"}]}}`] },
  { args: ["datastore", "migrate", "export"] },
  { args: ["datastore", "migrate", "unlock"] },
  { args: ["datastore", "migrate-policy-names"] },
  { args: ["delete", "tier", "default"] },
  { args: ["delete", "tier", "security"] },
  { args: ["delete", "ippool"] },
  { args: ["delete", "ippool", "split-main-0", "ghost"] },
  { args: ["delete", "node", "n1", "ghost", "--skip-not-exists"] },
  { args: ["delete", "-f", "-"], stdin: world },
  { args: ["delete", "-s", "-f", "-"], stdin: world },
  { args: ["get", "gnp"] },
  { args: ["frobnicate"] },
  { args: ["get", "nodes", "--frob"] },
  { args: ["-l", "loud", "get", "nodes"] },
  { args: ["version", "--client"] },
];
