import { Problem } from "../lib/problem.ts";
import { invalid } from "./problems.ts";
import { parseTree } from "./selector/parse.ts";

const label = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?";
/** The general rule of names, as text for messages. */
export const subdomainText = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
/** One label of a name, as text for messages. */
export const labelText = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
/** What Calico says of a name that should be one label. */
export const labelOnlyText = `name must consist of lower case alphanumeric characters or '-' (regex: ${labelText})`;
/** Longest name of a resource, in bytes. */
export const maxNameLength = 253;
/** Longest DNS label, in bytes. */
export const maxLabelLength = 63;

const resourceName = new RegExp(`^${label}(?:\\.${label})*$`);
/** A name of one label. */
export const labelPattern = new RegExp(`^${label}$`);
/** NetworkPolicy: one label, two labels, or `knp.default.`/`ossg.default.` and any name. */
export const networkPolicyPattern = new RegExp(
  `^(?:${label}(?:\\.${label})?|(?:knp|ossg)\\.default\\.${label}(?:\\.${label})*)$`,
);
/** GlobalNetworkPolicy: one or two labels. */
export const globalPolicyPattern = new RegExp(`^(?:${label}\\.)?${label}$`);
/** Value of a Kubernetes label. */
export const labelValuePattern = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const qualifiedPart = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

/** True for the general rule of names: labels of lower-case letters, digits and `-`, joined by dots. */
export const isResourceName = (name: string): boolean => resourceName.test(name);

/** True for a Kubernetes port name: at most 15 of `[a-z0-9-]`, at least one letter, no `-` doubled or at an end. */
export const isPortName = (name: string): boolean =>
  /^[a-z0-9-]{1,15}$/.test(name) && /[a-z]/.test(name) && !/--|^-|-$/.test(name);

/** True when a label selector can be read. */
export function isSelector(text: string): boolean {
  try {
    parseTree(text);
    return true;
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
}

/** True for a Kubernetes qualified name: `name` or `dns.prefix/name`. */
export const isQualifiedName = (name: string): boolean => qualifiedNameErrors(name).length === 0;

/** What is wrong with a qualified name, in Kubernetes' words; empty when nothing is. */
export function qualifiedNameErrors(text: string): string[] {
  const parts = text.split("/");
  if (parts.length > 2) {
    return [
      `a valid label key ${charactersText} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const errors: string[] = [];
  const name = parts.at(-1)!;
  if (parts.length === 2) {
    const prefix = parts[0]!;
    if (prefix === "") errors.push("prefix part must be non-empty");
    else if (prefix.length > maxNameLength) errors.push(`prefix part must be no more than ${maxNameLength} bytes`);
    else if (!resourceName.test(prefix)) errors.push(`prefix part ${subdomainCharactersText}`);
  }
  if (name === "") errors.push("name part must be non-empty");
  else if (name.length > maxLabelLength) errors.push(`name part must be no more than ${maxLabelLength} bytes`);
  if (!qualifiedPart.test(name)) errors.push(`name part ${charactersText}`);
  return errors;
}

/** What is wrong with the value of a label, in Kubernetes' words. */
export function labelValueErrors(value: string): string[] {
  const errors: string[] = [];
  if (value.length > maxLabelLength) errors.push(`must be no more than ${maxLabelLength} bytes`);
  if (!labelValuePattern.test(value)) errors.push(labelValueText);
  return errors;
}

const charactersText =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " +
  "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const subdomainCharactersText =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and " +
  "end with an alphanumeric character (e.g. 'example.com', regex used for validation is " +
  "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const labelValueText =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end " +
  "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is " +
  "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/** What a workload endpoint's name is made of. Which of pod, containerID and workload counts depends on `orchestrator`. */
export interface EndpointIdentity {
  node: string;
  /** `k8s`, `cni`, `libnetwork` or anything else. */
  orchestrator: string;
  pod?: string;
  containerID?: string;
  workload?: string;
  endpoint: string;
}

/** The four segments of an endpoint's name, with the JSON name of the field that each comes from. */
function segments(id: EndpointIdentity): [field: string, value: string][] {
  const third: Record<string, [string, string]> = {
    k8s: ["pod", id.pod ?? ""],
    cni: ["containerID", id.containerID ?? ""],
    libnetwork: ["orchestrator", id.orchestrator],
  };
  return [
    ["node", id.node],
    ["orchestrator", id.orchestrator],
    third[id.orchestrator] ?? ["workload", id.workload ?? ""],
    ["endpoint", id.endpoint],
  ];
}

/**
 * The name of a workload endpoint: its segments with every `-` doubled, joined by `-`.
 * @throws Problem "validation" when a segment is empty or begins or ends with `-`.
 * @example endpointName({node: "node-1", orchestrator: "k8s", pod: "web-0", endpoint: "eth0"}) // node--1-k8s-web--0-eth0
 * Source: Calico libcalico-go/lib/names/workloadendpoint.go.
 */
export function endpointName(id: EndpointIdentity): string {
  return segments(id).map(([field, value]) => escapeSegment(field, value)).join("-");
}

/**
 * The beginning that the names of several endpoints share: the segments before the first empty one, and a dash. It also
 * begins names of others (`cart` and `cart-0`), so what is found by it is to be compared.
 * @throws Problem "validation" as endpointName(), and when the node is empty.
 */
export function endpointNamePrefix(id: EndpointIdentity): string {
  const all = segments(id);
  const empty = all.findIndex(([, value], i) => value === "" && i > 0);
  if (empty < 0) return endpointName(id);
  return all.slice(0, empty).map(([field, value]) => escapeSegment(field, value)).join("-") + "-";
}

function escapeSegment(field: string, value: string): string {
  const reason = value === ""
    ? "field should be assigned"
    : value.startsWith("-")
    ? "field must not begin with a '-'"
    : value.endsWith("-")
    ? "field must not end with a '-'"
    : undefined;
  if (reason) {
    throw invalid([{ field, value: value === "" && field === "node" ? undefined : value, reason }]);
  }
  return value.replaceAll("-", "--");
}

/** The identity in an endpoint's name; undefined when it has not four segments. */
export function parseEndpointName(name: string): EndpointIdentity | undefined {
  const parts = splitSegments(name);
  if (parts.length !== 4 || parts.some((part) => part === "")) return undefined;
  return beginningOf(name) as EndpointIdentity;
}

/** True for the key, or the name, of a workload endpoint of this node. Names of others are not taken apart: there are many. */
export function isEndpointOf(node: string, key: string): boolean {
  const at = key.lastIndexOf("/") + 1;
  return key.startsWith(`${node.replaceAll("-", "--")}-`, at) && parseEndpointName(key.slice(at))?.node === node;
}

/** What the beginning of an endpoint's name says, "node" or "node-k8s-pod"; undefined when it has too many segments. */
export function beginningOf(name: string): Partial<EndpointIdentity> | undefined {
  const [node, orchestrator, third, endpoint, ...more] = splitSegments(name);
  if (more.length > 0) return undefined;
  const thirds: Record<string, keyof EndpointIdentity> = {
    k8s: "pod",
    cni: "containerID",
    libnetwork: "orchestrator",
  };
  return {
    node,
    ...(orchestrator === undefined ? {} : { orchestrator }),
    ...(third === undefined ? {} : { [thirds[orchestrator!] ?? "workload"]: third }),
    ...(endpoint === undefined ? {} : { endpoint }),
  };
}

/** Segments of a name joined by single dashes; a doubled dash is a dash. A segment is never empty but the first. */
function splitSegments(name: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let i = 1; i < name.length; i++) {
    if (name[i] !== "-") continue;
    if (name[i + 1] === "-") {
      i++;
      continue;
    }
    parts.push(name.slice(start, i));
    start = i + 1;
  }
  parts.push(name.slice(start));
  return parts.map((part) => part.replaceAll("--", "-"));
}

/**
 * The host side's interface name of a Kubernetes pod: `prefix` and 11 hex digits of SHA-1(`namespace.pod`). The same pod
 * name always gets the same interface name. @param prefix at most 4 bytes, as Linux allows 15.
 */
export async function podInterfaceName(namespace: string, pod: string, prefix = "cali"): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-1", new TextEncoder().encode(`${namespace}.${pod}`));
  const hex = [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
  return prefix + hex.slice(0, 11);
}

/** The host side's interface name of a container without Kubernetes: `cali` and 11 characters of its id. */
export const containerInterfaceName = (containerId: string): string => `cali${containerId.slice(0, 11)}`;

/** Escapes one part of a key in Calico's older form: `%` and `/`. */
export const escapePart = (text: string): string => text.replaceAll("%", "%25").replaceAll("/", "%2f");

/** The inverse of escapePart(). */
export const unescapePart = (text: string): string => text.replaceAll("%2f", "/").replaceAll("%25", "%");
