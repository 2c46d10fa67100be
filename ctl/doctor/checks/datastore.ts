import { kindByName } from "../../../datastore/kinds/index.ts";
import { parseKey } from "../../../datastore/keys.ts";
import { identify } from "../../../datastore/problems.ts";
import { check } from "../check.ts";

/** A small read that takes longer, in ms, holds up every pod. etcd itself warns of more than 100. */
const slowMs = 100;
/** Share of its quota from which etcd is nearly full. */
const fullShare = 0.8;
/** Clocks that differ more, in ms, break leases, tokens and the order of logs. etcd tells whole seconds. */
const skewMs = 5_000;

/** What everything else stands on. */
export const datastoreChecks = [
  check({
    id: "datastore-away",
    about: "etcd answers",
    looksAt: ["connection"],
    fault: "the datastore does not answer at {endpoints}: {why}",
    cure:
      "See that etcd runs and that this host reaches it (`etcdctl --endpoints {endpoints} endpoint health`), and that " +
      "ETCD_ENDPOINTS and the certificates are right. Pods that run keep their network meanwhile; new ones wait.",
    find: ({ connection: { endpoints, away } }) =>
      away === undefined ? [] : [{ endpoints: endpoints.join(","), why: away }],
  }),
  check({
    id: "datastore-member-away",
    about: "every configured endpoint of etcd answers",
    looksAt: ["connection"],
    fault: "{endpoint} does not answer while others do: {why}",
    cure: "Start that member of etcd, or take it out of ETCD_ENDPOINTS.",
    find: ({ connection: { away, silent } }) => away === undefined ? silent.map((s) => ({ ...s })) : [],
  }),
  check({
    id: "datastore-slow",
    about: "small reads take less than a tenth of a second",
    looksAt: ["connection"],
    fault: "the datastore takes {ms} ms to answer a small read",
    cure:
      "Look at the load of etcd's machines and at their disks (etcd's log: \"took too long\"), and at the way there. " +
      "Every new pod waits for at least one answer.",
    find: ({ connection: { latencyMs } }) => (latencyMs ?? 0) > slowMs ? [{ ms: Math.round(latencyMs!) }] : [],
  }),
  check({
    id: "etcd-nearly-full",
    about: "etcd has room left",
    looksAt: ["etcd"],
    fault: "etcd at {endpoint} uses {percent} % of its quota of {quotaMb} MB",
    cure: "Compact and defragment it (`etcdctl compact $(revision)`, `etcdctl defrag`), switch on " +
      "--auto-compaction-retention, or raise --quota-backend-bytes. A full etcd takes no writes at all.",
    find: ({ etcd }) =>
      etcd.flatMap(({ endpoint, sizeBytes, quotaBytes }) => {
        const share = quotaBytes ? sizeBytes / quotaBytes : 0;
        return share < fullShare
          ? []
          : [{ endpoint, percent: Math.round(share * 100), quotaMb: Math.round(quotaBytes! / 1e6) }];
      }),
  }),
  check({
    id: "etcd-alarm",
    about: "etcd has raised no alarm",
    looksAt: ["etcd"],
    fault: "etcd at {endpoint} has raised the alarm {alarm}",
    cure: "NOSPACE: compact, defragment, then `etcdctl alarm disarm`. CORRUPT: restore that member from the others.",
    find: ({ etcd }) => etcd.flatMap(({ endpoint, alarms }) => alarms.map((alarm) => ({ endpoint, alarm }))),
  }),
  check({
    id: "clock-skew",
    about: "this host's clock and etcd's agree",
    looksAt: ["etcd"],
    fault: "the clock of etcd at {endpoint} is {seconds} s {direction} this host's",
    cure: "Let both machines follow one source of time (`timedatectl set-ntp true`, chrony).",
    find: ({ etcd }) =>
      etcd.filter(({ clockAheadMs = 0 }) => Math.abs(clockAheadMs) > skewMs).map(({ endpoint, clockAheadMs = 0 }) => ({
        endpoint,
        seconds: Math.round(Math.abs(clockAheadMs) / 1000),
        direction: clockAheadMs > 0 ? "ahead of" : "behind",
      })),
  }),
  check({
    id: "datastore-locked",
    about: "the datastore is open for work",
    looksAt: ["objects"],
    fault: "the datastore is locked: ClusterInformation says datastoreReady false",
    cure: "When no migration is under way: `tortie ctl datastore migrate unlock`.",
    find: ({ objects }) => objects.ready === false ? [{}] : [],
  }),
  check({
    id: "datastore-empty",
    about: "the datastore holds a cluster",
    looksAt: ["objects"],
    fault: "the datastore has no ClusterInformation: no node has ever started on it",
    cure: "See that ETCD_ENDPOINTS names the cluster's etcd; the first `tortie node` makes what is missing.",
    find: ({ objects }) => objects.ready === undefined ? [{}] : [],
  }),
  check({
    id: "value-unreadable",
    about: "every stored value can be read",
    looksAt: ["objects"],
    fault: "{object} cannot be read: {why}",
    cure: "Write it again with `tortie ctl apply`, or delete it with `etcdctl del {key}`. Until then its last good " +
      "version stays in force on nodes that knew one.",
    find: ({ objects }) => objects.undecodable.map(({ key, why }) => ({ object: nameOf(key), key, why })),
  }),
];

function nameOf(key: string): string {
  const parsed = parseKey(key);
  return parsed?.is === "resource" ? identify(kindByName(parsed.kind).kind, parsed.name, parsed.namespace) : key;
}
