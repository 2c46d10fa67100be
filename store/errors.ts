/** gRPC status codes (grpc.io/docs/guides/status-codes) that the store answers. */
export const Status = {
  ok: 0,
  unknown: 2,
  invalidArgument: 3,
  notFound: 5,
  resourceExhausted: 8,
  failedPrecondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
} as const;

/** A call that is refused: its gRPC status and the words that clients look for. */
export class Refusal extends Error {
  constructor(readonly code: number, message: string) {
    super(message);
    this.name = "Refusal";
  }
}

const table = {
  emptyKey: [Status.invalidArgument, "key is not provided"],
  keyNotFound: [Status.invalidArgument, "key not found"],
  valueProvided: [Status.invalidArgument, "value is provided"],
  leaseProvided: [Status.invalidArgument, "lease is provided"],
  tooManyOps: [Status.invalidArgument, "too many operations in txn request"],
  duplicateKey: [Status.invalidArgument, "duplicate key given in txn request"],
  tooLarge: [Status.invalidArgument, "request is too large"],
  compacted: [Status.outOfRange, "mvcc: required revision has been compacted"],
  futureRevision: [Status.outOfRange, "mvcc: required revision is a future revision"],
  noSpace: [Status.resourceExhausted, "mvcc: database space exceeded"],
  leaseNotFound: [Status.notFound, "requested lease not found"],
  leaseExists: [Status.failedPrecondition, "lease already exists"],
  leaseTooLong: [Status.outOfRange, "too large lease TTL"],
  authOff: [Status.failedPrecondition, "authentication is not enabled"],
  corrupt: [Status.dataLoss, "corrupt cluster"],
  stopped: [Status.unavailable, "server stopped"],
} as const satisfies Record<string, readonly [number, string]>;

/** A refusal in etcd's own words (etcd's api/v3rpc/rpctypes/error.go), by what is wrong. */
export function refusal(what: keyof typeof table): Refusal {
  const [code, words] = table[what];
  return new Refusal(code, `etcdserver: ${words}`);
}
