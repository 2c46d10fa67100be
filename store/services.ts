/** etcd's gRPC methods, each as a call of the model. */
import type { Clock } from "../lib/clock.ts";
import { version as ownVersion } from "../lib/version.ts";
import type { Commits } from "./commits.ts";
import { Refusal, refusal, Status } from "./errors.ts";
import { type Method, streaming, unary } from "./grpc.ts";
import { type Header, messages as m } from "./messages.ts";
import type { Model } from "./model.ts";
import { checkKey, checkPut, checkTxn, isReadOnly } from "./txn_checks.ts";
import type { Watches } from "./watches.ts";

/** What the methods need. */
export interface ServiceParts {
  commits: Commits;
  watches: Watches;
  clock: Clock;
  random: () => bigint;
  /** What MemberList tells: where clients reach the store. */
  clientUrls: string[];
}

/** etcd's version whose behaviour the store has; clients compare it to know what a server can. */
export const etcdVersion = "3.4.23";

/** The largest write, in bytes: etcd's default of --max-request-bytes. */
const maxWriteBytes = 1.5 * 1024 * 1024;

/** Fills in what an answer's header says beside its revision, which 0n means the newest. */
function headed<T extends object>(model: Model, answer: T & { header?: Header }): T & { header: Header } {
  const { clusterId, memberId, revision } = model.numbers;
  const header = {
    cluster_id: clusterId,
    member_id: memberId,
    revision: answer.header?.revision || revision,
    raft_term: 1n,
  };
  return Object.assign(answer, { header });
}

/** All methods by path. */
export function services(parts: ServiceParts): Map<string, Method> {
  const all: [string, Record<string, Method>][] = [
    ["KV", keyValues(parts)],
    ["Watch", {
      Watch: streaming(m.watchRequest, m.watchResponse, (requests, call) => parts.watches.serve(requests, call)),
    }],
    ["Lease", leases(parts)],
    ["Maintenance", maintenance(parts)],
    ["Cluster", cluster(parts)],
    ["Auth", auth()],
  ];
  return new Map(
    all.flatMap(([service, methods]) =>
      Object.entries(methods).map(([name, method]): [string, Method] => [`/etcdserverpb.${service}/${name}`, method])
    ),
  );
}

function keyValues({ commits }: ServiceParts): Record<string, Method> {
  const read = <T extends object>(work: (model: Model) => T & { header?: Header }) =>
    commits.read((model) => headed(model, work(model)));
  const write = <T extends object>(bytes: number, work: (model: Model) => T & { header?: Header }) => {
    if (bytes > maxWriteBytes) throw refusal("tooLarge");
    return commits.write((model) => headed(model, work(model)));
  };
  return {
    Range: unary(m.rangeRequest, m.rangeResponse, (r) => {
      checkKey(r);
      return read((model) => model.range(r));
    }),
    Put: unary(m.putRequest, m.putResponse, (r, bytes) => {
      checkPut(r);
      return write(bytes, (model) => model.put(r));
    }),
    DeleteRange: unary(m.deleteRequest, m.deleteResponse, (r, bytes) => {
      checkKey(r);
      return write(bytes, (model) => model.deleteRange(r));
    }),
    Txn: unary(m.txnRequest, m.txnResponse, (r, bytes) => {
      checkTxn(r);
      if (isReadOnly(r)) return read((model) => model.txn(r));
      return write(bytes, (model) => model.txn(r));
    }),
    Compact: unary(m.compactionRequest, m.headerOnly, (r) =>
      write(0, (model) => {
        model.compact(r.revision);
        return {};
      })),
  };
}

function leases({ commits, clock, random }: ServiceParts): Record<string, Method> {
  const now = () => clock.monotonicMs();
  return {
    LeaseGrant: unary(m.leaseGrantRequest, m.leaseTerms, (r) =>
      commits.write((model) => {
        const { id, ttlS } = model.leases.grant(model.rows, r.ID, r.TTL, random, now());
        return headed(model, { ID: id, TTL: ttlS });
      })),
    LeaseRevoke: unary(m.leaseRequest, m.headerOnly, (r) =>
      commits.write((model) => {
        model.revoke(r.ID);
        return headed(model, {});
      })),
    LeaseKeepAlive: streaming(m.leaseRequest, m.leaseTerms, async (requests, call) => {
      for await (const { ID } of requests) {
        call.send(await commits.read((model) => headed(model, { ID, TTL: model.leases.renew(ID, now()) ?? 0n })));
      }
    }),
    LeaseTimeToLive: unary(m.leaseRequest, m.leaseTimeToLive, (r) =>
      commits.read((model) => {
        const found = model.leases.look(r.ID, now());
        if (!found) return headed(model, { ID: r.ID, TTL: -1n, grantedTTL: 0n, keys: [] });
        return headed(model, { ID: r.ID, TTL: found.leftS, grantedTTL: found.ttlS, keys: r.keys ? found.keys : [] });
      })),
    LeaseLeases: unary(
      m.empty,
      m.leaseLeases,
      () => commits.read((model) => headed(model, { leases: model.leases.ids().map((ID) => ({ ID })) })),
    ),
  };
}

function maintenance({ commits }: ServiceParts): Record<string, Method> {
  return {
    Status: unary(m.empty, m.status, () =>
      commits.read((model) => {
        const { memberId, revision } = model.numbers, { bytes, used } = model.rows.size();
        return headed(model, {
          ...{ version: etcdVersion, dbSize: bytes, dbSizeInUse: used, leader: memberId, raftTerm: 1n },
          ...{ raftIndex: BigInt(revision), raftAppliedIndex: BigInt(revision) },
          errors: commits.full ? ["the disk is full"] : [],
        });
      })),
    // An alarm stands as long as its cause does; there is nothing to disarm.
    Alarm: unary(
      m.alarmRequest,
      m.alarms,
      () =>
        commits.read((model) =>
          headed(model, { alarms: commits.full ? [{ memberID: model.numbers.memberId, alarm: 1 }] : [] })
        ),
    ),
    Hash: unary(m.empty, m.hashKv, () => commits.read((model) => headed(model, hash(model, 0n)))),
    HashKV: unary(m.hashRequest, m.hashKv, (r) =>
      commits.read((model) => {
        const { revision, compacted } = model.numbers;
        if (r.revision > revision) throw refusal("futureRevision");
        if (r.revision > 0n && r.revision < compacted) throw refusal("compacted");
        return headed(model, hash(model, r.revision));
      })),
    Defragment: unary(m.empty, m.headerOnly, async () => {
      await commits.write(() => {}); // what is open is committed
      commits.settled?.rows.shrink();
      return {};
    }),
    Snapshot: refusing(
      "snapshot: the store's file is no etcd database; copy it with `sqlite3 FILE .backup COPY` while the " +
        "store is stopped",
    ),
    MoveLeader: refusing("move leader: the store has one member"),
  };
}

/** FNV-1a over all changes up to a revision; 0n = the newest. Only for comparing a store with itself. */
function hash(model: Model, asked: bigint): { hash: bigint; compact_revision: bigint } {
  const all = { start: new Uint8Array(1), end: new Uint8Array(1) };
  let value = 0x811c9dc5;
  const take = (bytes: Uint8Array) => {
    for (const b of bytes) value = Math.imul(value ^ b, 0x01000193) >>> 0;
  };
  for (const { kv } of model.rows.history(all, 0n, asked > 0n ? asked : model.numbers.revision, -1n)) {
    take(kv.key);
    take(kv.value);
    take(new TextEncoder().encode(`${kv.mod_revision} ${kv.version} ${kv.lease}`));
  }
  return { hash: BigInt(value), compact_revision: model.numbers.compacted };
}

function cluster({ commits, clientUrls }: ServiceParts): Record<string, Method> {
  const onlyOne = refusing("the store has one member; a cluster needs etcd");
  return {
    MemberList: unary(m.empty, m.members, () =>
      commits.read((model) =>
        headed(model, {
          members: [{
            ID: model.numbers.memberId,
            name: `tortie-store-${ownVersion}`,
            peerURLs: [],
            clientURLs: clientUrls,
          }],
        })
      )),
    ...{ MemberAdd: onlyOne, MemberRemove: onlyOne, MemberUpdate: onlyOne, MemberPromote: onlyOne },
  };
}

/** Who may open the socket may do anything: there are no users. Clients take the answer as "no login needed". */
function auth(): Record<string, Method> {
  const off = unary(m.empty, m.headerOnly, () => {
    throw refusal("authOff");
  });
  const names = ["Authenticate", "AuthDisable", "UserAdd", "UserGet", "UserList", "UserDelete", "UserChangePassword"];
  names.push("UserGrantRole", "UserRevokeRole", "RoleAdd", "RoleGet", "RoleList", "RoleDelete", "RoleGrantPermission");
  names.push("RoleRevokePermission");
  return {
    ...Object.fromEntries(names.map((name) => [name, off])),
    AuthStatus: unary(m.empty, m.headerOnly, () => ({})),
    AuthEnable: refusing("users: who may open the store's socket may do anything; users need etcd"),
  };
}

const refusing = (why: string): Method =>
  unary(m.empty, m.headerOnly, () => {
    throw new Refusal(Status.unimplemented, `tortie store does not do ${why}`);
  });
