/**
 * The messages of etcd's v3 API that the store speaks, with etcd's names and field numbers (etcd's rpc.proto, kv.proto).
 * A field that is missing on the wire is zero; a message that is missing is undefined.
 */
import { type Message, message } from "./protobuf.ts";

/** A key with its revisions. `version` counts puts since creation; `lease` 0 = none. */
export interface KeyValue {
  key: Uint8Array;
  create_revision: bigint;
  mod_revision: bigint;
  version: bigint;
  value: Uint8Array;
  lease: bigint;
}

/** Part of every answer. The revision is the newest one; in the answers inside of a transaction, the transaction's. */
export interface Header {
  cluster_id: bigint;
  member_id: bigint;
  revision: bigint;
  raft_term: bigint;
}

/** `range_end` empty = one key; one zero byte = all keys from `key` on. */
export interface RangeRequest {
  key: Uint8Array;
  range_end: Uint8Array;
  limit: bigint;
  revision: bigint;
  /** 0 none, 1 ascending, 2 descending. */
  sort_order: number;
  /** 0 key, 1 version, 2 create revision, 3 mod revision, 4 value. */
  sort_target: number;
  serializable: boolean;
  keys_only: boolean;
  count_only: boolean;
  min_mod_revision: bigint;
  max_mod_revision: bigint;
  min_create_revision: bigint;
  max_create_revision: bigint;
}

/** `count`: keys in the range, whatever the limit. */
export interface RangeResponse {
  header?: Header;
  kvs: KeyValue[];
  more: boolean;
  count: bigint;
}

/** A write of one key. */
export interface PutRequest {
  key: Uint8Array;
  value: Uint8Array;
  lease: bigint;
  prev_kv: boolean;
  ignore_value: boolean;
  ignore_lease: boolean;
}

/** Answer to a put. */
export interface PutResponse {
  header?: Header;
  prev_kv?: KeyValue;
}

/** Removes a key or a range. */
export interface DeleteRangeRequest {
  key: Uint8Array;
  range_end: Uint8Array;
  prev_kv: boolean;
}

/** Answer to a delete. */
export interface DeleteRangeResponse {
  header?: Header;
  deleted: bigint;
  prev_kvs: KeyValue[];
}

/** One operation of a transaction; exactly one of them. */
export interface RequestOp {
  request_range?: RangeRequest;
  request_put?: PutRequest;
  request_delete_range?: DeleteRangeRequest;
  request_txn?: TxnRequest;
}

/** The answer to one operation. */
export interface ResponseOp {
  response_range?: RangeResponse;
  response_put?: PutResponse;
  response_delete_range?: DeleteRangeResponse;
  response_txn?: TxnResponse;
}

/** A condition on a key or on every key of a range. */
export interface Compare {
  /** 0 equal, 1 greater, 2 less, 3 not equal. */
  result: number;
  /** 0 version, 1 create revision, 2 mod revision, 3 value, 4 lease. */
  target: number;
  key: Uint8Array;
  version: bigint;
  create_revision: bigint;
  mod_revision: bigint;
  value: Uint8Array;
  lease: bigint;
  range_end: Uint8Array;
}

/** `success` is done when all compares hold, else `failure`. */
export interface TxnRequest {
  compare: Compare[];
  success: RequestOp[];
  failure: RequestOp[];
}

/** Which branch was taken, and its answers in order. */
export interface TxnResponse {
  header?: Header;
  succeeded: boolean;
  responses: ResponseOp[];
}

/** A change as a watch tells it. */
export interface Event {
  /** 0 put, 1 delete. */
  type: number;
  kv: KeyValue;
  prev_kv?: KeyValue;
}

/** Asks for the changes of a key or range from a revision on; 0 = from now on. */
export interface WatchCreateRequest {
  key: Uint8Array;
  range_end: Uint8Array;
  start_revision: bigint;
  progress_notify: boolean;
  /** 0 no puts, 1 no deletes. */
  filters: number[];
  prev_kv: boolean;
  watch_id: bigint;
  fragment: boolean;
}

/** What a client says on its watch stream. */
export interface WatchRequest {
  create_request?: WatchCreateRequest;
  cancel_request?: { watch_id: bigint };
  progress_request?: Record<string, never>;
}

/** What the store says on a watch stream. */
export interface WatchResponse {
  header?: Header;
  watch_id: bigint;
  created: boolean;
  canceled: boolean;
  compact_revision: bigint;
  cancel_reason: string;
  fragment: boolean;
  events: Event[];
}

/** A lease's time in seconds and its id. */
export interface LeaseTerms {
  header?: Header;
  ID: bigint;
  TTL: bigint;
}

/** A lease's remaining and granted time, and its keys. */
export interface LeaseTimeToLive extends LeaseTerms {
  grantedTTL: bigint;
  keys: Uint8Array[];
}

/** One of the store's servers: there is one. */
export interface Member {
  ID: bigint;
  name: string;
  peerURLs: string[];
  clientURLs: string[];
}

/** How the store is. */
export interface StatusResponse {
  header?: Header;
  version: string;
  dbSize: bigint;
  leader: bigint;
  raftIndex: bigint;
  raftTerm: bigint;
  raftAppliedIndex: bigint;
  errors: string[];
  dbSizeInUse: bigint;
}

/** An answer without content. */
export interface HeaderOnly {
  header?: Header;
}

/** A list of members. */
export interface Members extends HeaderOnly {
  members: Member[];
}

/** Alarms that stand: 1 = no space. */
export interface Alarms extends HeaderOnly {
  alarms: { memberID: bigint; alarm: number }[];
}

/** A hash of the history up to a revision. */
export interface HashKv extends HeaderOnly {
  hash: bigint;
  compact_revision: bigint;
}

const keyValue = message<KeyValue>({
  key: { n: 1, is: "bytes" },
  create_revision: { n: 2, is: "int64" },
  mod_revision: { n: 3, is: "int64" },
  version: { n: 4, is: "int64" },
  value: { n: 5, is: "bytes" },
  lease: { n: 6, is: "int64" },
});

const headerMessage = message<Header>({
  cluster_id: { n: 1, is: "uint64" },
  member_id: { n: 2, is: "uint64" },
  revision: { n: 3, is: "int64" },
  raft_term: { n: 4, is: "uint64" },
});

const header = { n: 1, is: () => headerMessage } as const;

const rangeRequest = message<RangeRequest>({
  key: { n: 1, is: "bytes" },
  range_end: { n: 2, is: "bytes" },
  limit: { n: 3, is: "int64" },
  revision: { n: 4, is: "int64" },
  sort_order: { n: 5, is: "enum" },
  sort_target: { n: 6, is: "enum" },
  serializable: { n: 7, is: "bool" },
  keys_only: { n: 8, is: "bool" },
  count_only: { n: 9, is: "bool" },
  min_mod_revision: { n: 10, is: "int64" },
  max_mod_revision: { n: 11, is: "int64" },
  min_create_revision: { n: 12, is: "int64" },
  max_create_revision: { n: 13, is: "int64" },
});

const rangeResponse = message<RangeResponse>({
  header,
  kvs: { n: 2, is: () => keyValue, many: true },
  more: { n: 3, is: "bool" },
  count: { n: 4, is: "int64" },
});

const putRequest = message<PutRequest>({
  key: { n: 1, is: "bytes" },
  value: { n: 2, is: "bytes" },
  lease: { n: 3, is: "int64" },
  prev_kv: { n: 4, is: "bool" },
  ignore_value: { n: 5, is: "bool" },
  ignore_lease: { n: 6, is: "bool" },
});

const putResponse = message<PutResponse>({ header, prev_kv: { n: 2, is: () => keyValue } });

const deleteRequest = message<DeleteRangeRequest>({
  key: { n: 1, is: "bytes" },
  range_end: { n: 2, is: "bytes" },
  prev_kv: { n: 3, is: "bool" },
});

const deleteResponse = message<DeleteRangeResponse>({
  header,
  deleted: { n: 2, is: "int64" },
  prev_kvs: { n: 3, is: () => keyValue, many: true },
});

const requestOp: Message<RequestOp> = message<RequestOp>({
  request_range: { n: 1, is: () => rangeRequest },
  request_put: { n: 2, is: () => putRequest },
  request_delete_range: { n: 3, is: () => deleteRequest },
  request_txn: { n: 4, is: () => txnRequest },
});

const responseOp: Message<ResponseOp> = message<ResponseOp>({
  response_range: { n: 1, is: () => rangeResponse },
  response_put: { n: 2, is: () => putResponse },
  response_delete_range: { n: 3, is: () => deleteResponse },
  response_txn: { n: 4, is: () => txnResponse },
});

const compare = message<Compare>({
  result: { n: 1, is: "enum" },
  target: { n: 2, is: "enum" },
  key: { n: 3, is: "bytes" },
  version: { n: 4, is: "int64" },
  create_revision: { n: 5, is: "int64" },
  mod_revision: { n: 6, is: "int64" },
  value: { n: 7, is: "bytes" },
  lease: { n: 8, is: "int64" },
  range_end: { n: 64, is: "bytes" },
});

const txnRequest: Message<TxnRequest> = message<TxnRequest>({
  compare: { n: 1, is: () => compare, many: true },
  success: { n: 2, is: () => requestOp, many: true },
  failure: { n: 3, is: () => requestOp, many: true },
});

const txnResponse: Message<TxnResponse> = message<TxnResponse>({
  header,
  succeeded: { n: 2, is: "bool" },
  responses: { n: 3, is: () => responseOp, many: true },
});

const event = message<Event>({
  type: { n: 1, is: "enum" },
  kv: { n: 2, is: () => keyValue },
  prev_kv: { n: 3, is: () => keyValue },
});

const watchCreateRequest = message<WatchCreateRequest>({
  key: { n: 1, is: "bytes" },
  range_end: { n: 2, is: "bytes" },
  start_revision: { n: 3, is: "int64" },
  progress_notify: { n: 4, is: "bool" },
  filters: { n: 5, is: "enum", many: true },
  prev_kv: { n: 6, is: "bool" },
  watch_id: { n: 7, is: "int64" },
  fragment: { n: 8, is: "bool" },
});

const empty = message<Record<string, never>>({});
const watchCancelRequest = message<{ watch_id: bigint }>({ watch_id: { n: 1, is: "int64" } });

const watchRequest = message<WatchRequest>({
  create_request: { n: 1, is: () => watchCreateRequest },
  cancel_request: { n: 2, is: () => watchCancelRequest },
  progress_request: { n: 3, is: () => empty },
});

const watchResponse = message<WatchResponse>({
  header,
  watch_id: { n: 2, is: "int64" },
  created: { n: 3, is: "bool" },
  canceled: { n: 4, is: "bool" },
  compact_revision: { n: 5, is: "int64" },
  cancel_reason: { n: 6, is: "string" },
  fragment: { n: 7, is: "bool" },
  events: { n: 11, is: () => event, many: true },
});

const leaseStatus = message<{ ID: bigint }>({ ID: { n: 1, is: "int64" } });

const member = message<Member>({
  ID: { n: 1, is: "uint64" },
  name: { n: 2, is: "string" },
  peerURLs: { n: 3, is: "string", many: true },
  clientURLs: { n: 4, is: "string", many: true },
});

const alarm = message<{ memberID: bigint; alarm: number }>({
  memberID: { n: 1, is: "uint64" },
  alarm: { n: 2, is: "enum" },
});

/** Every message that is a whole request or answer, by what it is for. */
export const messages = {
  ...{ keyValue, rangeRequest, rangeResponse, putRequest, putResponse, deleteRequest, deleteResponse },
  ...{ txnRequest, txnResponse, watchRequest, watchResponse, empty },
  compactionRequest: message<{ revision: bigint; physical: boolean }>({
    revision: { n: 1, is: "int64" },
    physical: { n: 2, is: "bool" },
  }),
  headerOnly: message<HeaderOnly>({ header }),
  leaseGrantRequest: message<{ TTL: bigint; ID: bigint }>({ TTL: { n: 1, is: "int64" }, ID: { n: 2, is: "int64" } }),
  leaseRequest: message<{ ID: bigint; keys: boolean }>({ ID: { n: 1, is: "int64" }, keys: { n: 2, is: "bool" } }),
  leaseTerms: message<LeaseTerms>({ header, ID: { n: 2, is: "int64" }, TTL: { n: 3, is: "int64" } }),
  leaseTimeToLive: message<LeaseTimeToLive>({
    header,
    ID: { n: 2, is: "int64" },
    TTL: { n: 3, is: "int64" },
    grantedTTL: { n: 4, is: "int64" },
    keys: { n: 5, is: "bytes", many: true },
  }),
  leaseLeases: message<HeaderOnly & { leases: { ID: bigint }[] }>({
    header,
    leases: { n: 2, is: () => leaseStatus, many: true },
  }),
  members: message<Members>({ header, members: { n: 2, is: () => member, many: true } }),
  alarmRequest: message<{ action: number; memberID: bigint; alarm: number }>({
    action: { n: 1, is: "enum" },
    memberID: { n: 2, is: "uint64" },
    alarm: { n: 3, is: "enum" },
  }),
  alarms: message<Alarms>({ header, alarms: { n: 2, is: () => alarm, many: true } }),
  hashRequest: message<{ revision: bigint }>({ revision: { n: 1, is: "int64" } }),
  hashKv: message<HashKv>({ header, hash: { n: 2, is: "uint64" }, compact_revision: { n: 3, is: "int64" } }),
  status: message<StatusResponse>({
    header,
    version: { n: 2, is: "string" },
    dbSize: { n: 3, is: "int64" },
    leader: { n: 4, is: "uint64" },
    raftIndex: { n: 5, is: "uint64" },
    raftTerm: { n: 6, is: "uint64" },
    raftAppliedIndex: { n: 7, is: "uint64" },
    errors: { n: 8, is: "string", many: true },
    dbSizeInUse: { n: 9, is: "int64" },
  }),
};
