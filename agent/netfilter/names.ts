import { createHash } from "node:crypto";
import type { Family } from "../../lib/ip.ts";
import type { PolicyId, SetId } from "../desired_policy.ts";

/** Longest chain name in bytes: the kernel has room for 28 and a final zero. */
export const maxChainName = 28;
/** Longest IP set name in bytes. */
const maxSetName = 31;

/**
 * `prefix + suffix`, or `prefix_hash` when that is too long. A suffix that begins with `_` is hashed already when it
 * just fits, so that nobody can write a name that looks hashed.
 * DIFFERS: with a `max` beyond the hash's 43 characters the whole hash is used; Calico slices beyond its end and panics.
 * Source: Calico's libcalico-go/lib/hash, GetLengthLimitedID. Cases: limited-name in names.json.
 */
export function limitedName(prefix: string, suffix: string, max: number): string {
  const rest = suffix || "_";
  const length = byteLength(prefix) + byteLength(rest);
  if (length < max || (length === max && !rest.startsWith("_"))) return prefix + rest;
  return `${prefix}_${sha("sha256", rest).slice(0, max - 1 - byteLength(prefix))}`;
}

/**
 * Chain of a policy, profile or endpoint: `prefix` is one of chainPrefixes. A suffix that could not stand in a line for
 * iptables-restore, which no object accepted by the API has, is hashed.
 */
export const chainName = (prefix: string, suffix: string): string =>
  /^[\w./:@+=~-]*$/.test(suffix)
    ? limitedName(prefix, suffix, maxChainName)
    : `${prefix}_${sha("sha256", suffix)}`.slice(0, maxChainName);

/** What the names of our dynamic chains begin with. Directions are the host's: `pi` is asked for packets to a workload. */
export const chainPrefixes = {
  policy: { ingress: "cali-pi-", egress: "cali-po-" },
  profile: { ingress: "cali-pri-", egress: "cali-pro-" },
  group: { ingress: "cali-gi-", egress: "cali-go-" },
  workload: { to: "cali-tw-", from: "cali-fw-" },
  host: { to: "cali-th-", from: "cali-fh-" },
  hostForward: { to: "cali-thfw-", from: "cali-fhfw-" },
} as const;

/**
 * True for chains that only say which interface has which chain: they hold no rules of policy, and an interface that comes or
 * goes has no packets then.
 */
export const listsInterfaces = (chain: string): boolean =>
  /^cali-(?:from|to)-(?:wl-dispatch|host-endpoint)(?:-|$)/.test(chain);

/** Every beginning that a chain of ours has, or had with older versions of Felix. */
export const ownPrefixes = ["felix-", "cali-", "califw-", "calitw-", "califh-", "calith-", "calipi-", "calipo-"];

/** Name under which a host endpoint of interface `*` stands in chain names. */
export const anyInterface = "any-interface-at-all";

const shortKinds: Record<string, string> = {
  NetworkPolicy: "np",
  GlobalNetworkPolicy: "gnp",
  KubernetesNetworkPolicy: "knp",
  KubernetesClusterNetworkPolicy: "kcnp",
  StagedNetworkPolicy: "snp",
  StagedGlobalNetworkPolicy: "sgnp",
  StagedKubernetesNetworkPolicy: "sknp",
};

/** Who a policy is. */
export interface PolicyName {
  kind: string;
  namespace?: string;
  name: string;
}

/** The parts of `Kind:namespace/name` or `Kind:name`. */
export function parsePolicyId(id: PolicyId): PolicyName {
  const at = id.indexOf(":"), [first, second] = id.slice(at + 1).split("/", 2) as [string, string | undefined];
  const kind = id.slice(0, at);
  return second === undefined ? { kind, name: first } : { kind, namespace: first, name: second };
}

/** `np/demo/web-in`, `gnp/security.no-bad`: suffix of a policy's chains. The tier is not part of it. */
export function policySuffix({ kind, namespace, name }: PolicyName): string {
  const short = shortKinds[kind] ?? kind;
  return namespace ? `${short}/${namespace}/${name}` : `${short}/${name}`;
}

/** A run of policies of one tier and direction with the same selector. */
export interface PolicyGroup {
  selector: string;
  policies: (PolicyName & { staged: boolean })[];
}

/** A group with fewer than two enforced policies gets no chain of its own. */
export const isInlined = (group: PolicyGroup): boolean => group.policies.filter((p) => !p.staged).length < 2;

/** Chain of a group; never shortened. Source: Calico's felix/rules/endpoints.go, PolicyGroup.UniqueID. */
export function groupChainName(group: PolicyGroup, direction: "ingress" | "egress"): string {
  const words = [
    group.selector,
    direction === "ingress" ? "inbound" : "outbound",
    String(group.policies.length),
    ...group.policies.map((p) => `{Name: ${p.name}, Namespace: ${p.namespace ?? ""}, Kind: ${p.kind}}`),
  ];
  return chainPrefixes.group[direction] + sha("sha3-224", words.map((w) => w + "\n").join("")).slice(0, 20);
}

/** Kernel name of an IP set: `cali40s:1Fy710WAMQpFXpESsaepg7V`. The 0 is a version: it changes with a set's type. */
export const setName = (id: SetId, family: Family): string => `cali${family}0${id}`.slice(0, maxSetName);

/** Name of the temporary set number `n`. */
export const temporarySetName = (n: number, family: Family): string => `${temporarySetPrefix(family)}${n}`;

/** What the names of sets begin with that exist only while another one is made anew. */
export const temporarySetPrefix = (family: Family): string => `cali${family}t`;

/** True for the name of an IP set that we, or an older Felix, made. */
export const isOwnSet = (name: string, family: Family): boolean =>
  name.startsWith(`cali${family}`) || name.startsWith(`felix-${family}`) ||
  (family === 4 && /^felix-(masq|all)-ipam-pools/.test(name));

/**
 * The hash of each rule of a chain: 16 characters that cover the chain's name, every rule before it and the rule.
 * @param texts each rule as it is written, with the word HASH in place of its hash comment (iptables: the whole
 * `-A chain HASH …` line; nft: the body alone).
 * Source: Calico's felix/generictables/rules.go, RuleHashes.
 */
export function ruleHashes(chain: string, texts: string[]): string[] {
  let before: Uint8Array = createHash("sha224").update(chain).digest();
  return texts.map((text) => {
    const hash = createHash("sha224").update(before).update(text).digest();
    before = hash;
    return hash.toString("base64url").slice(0, 16);
  });
}

/** Longest NFLOG prefix in bytes, with the final zero. */
const maxLogPrefix = 64;

/** Whose verdict an NFLOG prefix tells. */
export type LoggedVerdict =
  | { by: "rule"; action: "allow" | "deny" | "pass"; owner: "policy" | "profile"; index: number; id: string }
  | { by: "tier"; tier: string }
  | { by: "no profile" };

/**
 * `API0|np/demo/web-in`: Allow by rule 0 of a policy, ingress. A long one keeps both ends and has a hash between.
 * Source: Calico's felix/rules/nflogprefix.go.
 */
export function logPrefix(verdict: LoggedVerdict, direction: "ingress" | "egress"): string {
  const d = direction === "ingress" ? "I" : "E";
  if (verdict.by === "no profile") return `DR${d}`;
  if (verdict.by === "tier") return shortenLogPrefix(`DP${d}|${verdict.tier}`);
  const owner = verdict.owner === "policy" ? "P" : "R";
  return shortenLogPrefix(`${verdict.action[0]!.toUpperCase()}${owner}${d}${verdict.index}|${verdict.id}`);
}

function shortenLogPrefix(text: string): string {
  const max = maxLogPrefix - 1;
  if (byteLength(text) < max) return text;
  const kept = 10;
  return `${text.slice(0, kept)}${limitedName("", text, max - 2 * kept - 1)}_${text.slice(-kept)}`;
}

const sha = (algorithm: string, text: string): string => createHash(algorithm).update(text).digest("base64url");
const byteLength = (text: string): number => new TextEncoder().encode(text).length;
