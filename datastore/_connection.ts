import "./_http2_connect.ts";
import { isOldDeno } from "./_http2_on_deno_2_6.ts";
import "./_proto_path.ts";
import { type ChannelCredentials, type Client, connectivityState, Metadata } from "@grpc/grpc-js";
import { noop } from "cockatiel";
import { Etcd3 } from "etcd3";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { type Duplex, MessageStream } from "./_message_stream.ts";
import { authIsOff, type CallFailure, errorOf, failureOf, isAway, needsNewToken } from "./_etcd_errors.ts";
import type { StoreOptions } from "./options.ts";
import { tlsCredentials } from "./tls.ts";

/** etcd's gRPC services that are used. */
export type Service = "KV" | "Watch" | "Lease" | "Auth" | "Maintenance";

/** How a unary call is made. A write is sent once; a call that only reads may be sent to a second member. */
export interface UnaryOptions {
  readOnly: boolean;
  deadlineMs?: number;
  signal?: AbortSignal;
}

/** What a connection is made of. */
export interface ConnectionDeps {
  clock: Clock;
  log: Logger;
  /** 0..1; spreads a fleet over the members. */
  random: () => number;
}

/** A call's method on a generated stub. */
type UnaryMethod = (
  request: unknown,
  metadata: Metadata,
  options: { deadline: number },
  done: (error: unknown, response: unknown) => void,
) => { cancel(): void };

/**
 * The inside of etcd3's client that is used: one host with its generated stubs. etcd3's own pool is not, because it picks a
 * member at random for each call, retries writes, and never closes the channels on which it asks for tokens.
 */
interface InsideEtcd3 {
  pool: { hosts: { channelCredentials: ChannelCredentials; getServiceClient(name: Service): Client }[] };
}

/**
 * etcd closes connections that are pinged more often than every 5 s, and those without a call (a watch is one) at the third
 * ping; Deno 2.9 does not survive the GOAWAY of the latter (an assertion of its nghttp2).
 */
const keepalive = {
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  "grpc.keepalive_permit_without_calls": 0,
};

const channelOptions = {
  // Deno 2.6 has no pings, and grpc-js takes that for a lost connection: there a frozen server is seen by deadlines alone.
  ...(isOldDeno ? {} : keepalive),
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // grpc-js retries calls of its own when it thinks them unsent; whether to try again is decided here.
  "grpc.enable_retries": 0,
  // As etcd's own client: proxies in the environment are not for etcd.
  "grpc.enable_http_proxy": 0,
};

/** One etcd member. Its channel connects by itself, and again after losses. */
class Member {
  readonly #etcd: Etcd3;
  readonly #inside: InsideEtcd3["pool"]["hosts"][number];

  constructor(readonly endpoint: string, credentials: ChannelCredentials | undefined) {
    this.#etcd = new Etcd3({
      hosts: endpoint,
      grpcOptions: channelOptions,
      faultHandling: { global: noop, host: () => noop },
    });
    const host = (this.#etcd as unknown as Partial<InsideEtcd3>).pool?.hosts?.[0];
    if (!host?.channelCredentials) {
      throw new Error("etcd3 changed: no pool.hosts[].channelCredentials; it must be 1.1.2");
    }
    this.#inside = host;
    if (credentials) this.#inside.channelCredentials = credentials;
  }

  stub(service: Service): Client & Record<string, unknown> {
    return this.#inside.getServiceClient(service) as Client & Record<string, unknown>;
  }

  /** True as soon as calls of `service` can be sent; false when connecting fails, or takes until `until` (Date ms). */
  ready(service: Service, until: number): Promise<boolean> {
    const channel = this.stub(service).getChannel();
    return new Promise((resolve) => {
      const look = (): void => {
        const state = channel.getConnectivityState(true);
        if (state === connectivityState.READY) return resolve(true);
        if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) {
          return resolve(false);
        }
        channel.watchConnectivityState(state, until, (late) => late ? resolve(false) : look());
      };
      look();
    });
  }

  close(): void {
    this.#etcd.close();
  }
}

/**
 * Connections to the members of one cluster: picks one that answers and stays with it, moves on when it fails, carries the
 * user's token and renews it.
 */
export class Connection implements Disposable {
  /** Calls sent, by method. */
  readonly requests: Record<string, number> = {};
  /** The member that is used comes first. */
  readonly #members: Member[];
  readonly #options: StoreOptions;
  readonly #deps: ConnectionDeps;
  #token: { asked: Promise<string | undefined>; value?: string } | undefined;
  #closed = false;

  /** @throws Problem "bad-input" when a certificate file cannot be read. */
  constructor(options: StoreOptions, deps: ConnectionDeps) {
    this.#options = options;
    this.#deps = deps;
    const secure = options.endpoints[0]?.startsWith("https:");
    const credentials = secure ? tlsCredentials(options, deps) : undefined;
    const members = options.endpoints.map((e) => new Member(e, credentials));
    const first = Math.floor(deps.random() * members.length);
    this.#members = [...members.slice(first), ...members.slice(0, first)];
  }

  /** One request, one answer. @throws Problem, Compacted, Restored, or the signal's reason. */
  async unary<T>(service: Service, method: string, request: unknown, options: UnaryOptions): Promise<T> {
    const { signal, deadlineMs = this.#options.deadlineMs } = options;
    const until = this.#deps.clock.now() + deadlineMs;
    const tried = new Set<Member>();
    for (let renewed = false, attempts = 1;; attempts++) {
      signal?.throwIfAborted();
      const untilNow = options.readOnly ? this.#share(until, tried.size) : until;
      const member = await this.#pick(service, untilNow);
      let token: string | undefined;
      try {
        token = await this.#tokenFor(member, untilNow);
        return await this.#send<T>(member, service, method, request, token, untilNow, signal);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        const failure = failureOf(error);
        if (!failure) throw error;
        if (!renewed && this.#renew(failure, token)) {
          renewed = true;
          continue;
        }
        tried.add(member);
        if (isAway(failure)) this.#suspect(member);
        // A read is asked of each member, at least twice: a connection that was broken is found out by using it.
        const mayGoOn = options.readOnly && isAway(failure) && attempts < Math.max(2, this.#members.length);
        if (!mayGoOn || this.#deps.clock.now() >= until) {
          throw errorOf(failure, { endpoint: member.endpoint, deadlineMs });
        }
      }
    }
  }

  /** Opens a stream; its errors are as those of unary(). Failing members are left behind at the next call. */
  async stream<Out, In>(service: Service, method: string, signal: AbortSignal): Promise<MessageStream<Out, In>> {
    const deadlineMs = this.#options.deadlineMs;
    const until = this.#deps.clock.now() + deadlineMs;
    const member = await this.#pick(service, until);
    const failed = (error: unknown, token?: string): Error => {
      const failure = failureOf(error);
      if (!failure) return error instanceof Error ? error : new Error(String(error));
      this.#renew(failure, token);
      if (isAway(failure)) this.#suspect(member);
      return errorOf(failure, { endpoint: member.endpoint, deadlineMs });
    };
    let token: string | undefined;
    try {
      token = await this.#tokenFor(member, until);
    } catch (error) {
      throw failed(error);
    }
    signal.throwIfAborted();
    this.#count(method);
    const metadata = metadataOf(token);
    metadata.set("hasleader", "true"); // a member cut off from the others ends its streams
    const stub = member.stub(service);
    const duplex = (stub[method] as (m: Metadata) => Duplex).call(stub, metadata);
    return new MessageStream(duplex, signal, (error) => failed(error, token), () => this.#suspect(member));
  }

  /** The server refused the token although it did not say so plainly: ask for a new one at the next call. */
  forgetToken(): void {
    this.#token = undefined;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    for (const m of this.#members) m.close();
  }

  /** The first member that is connected by `until`; when none is, the first, whose call then fails and says why. */
  async #pick(service: Service, until: number): Promise<Member> {
    if (this.#closed) throw new Error("the store is closed");
    for (const [i, member] of [...this.#members].entries()) {
      if (await member.ready(service, this.#share(until, i))) {
        if (i > 0) this.#prefer(member);
        return member;
      }
    }
    return this.#members[0]!;
  }

  /** The moment until which to try one member when `tried` of them were tried. */
  #share(until: number, tried: number): number {
    const now = this.#deps.clock.now();
    return now + (until - now) / Math.max(1, this.#members.length - tried);
  }

  #prefer(member: Member): void {
    this.#members.splice(this.#members.indexOf(member), 1);
    this.#members.unshift(member);
  }

  #suspect(member: Member): void {
    if (this.#members[0] !== member || this.#members.length === 1) return;
    this.#members.push(this.#members.shift()!);
    this.#deps.log.info("etcd member failed, using another", {
      endpoint: member.endpoint,
      now: this.#members[0]!.endpoint,
    });
  }

  #count(method: string): void {
    this.requests[method] = (this.requests[method] ?? 0) + 1;
  }

  #send<T>(
    member: Member,
    service: Service,
    method: string,
    request: unknown,
    token: string | undefined,
    until: number,
    signal?: AbortSignal,
  ): Promise<T> {
    this.#count(method);
    const stub = member.stub(service);
    return new Promise<T>((resolve, reject) => {
      const call = (stub[method] as UnaryMethod).call(
        stub,
        request,
        metadataOf(token),
        { deadline: until },
        (error, answer) => {
          signal?.removeEventListener("abort", stop);
          if (error) reject(error);
          else resolve(answer as T);
        },
      );
      const stop = () => call.cancel();
      signal?.addEventListener("abort", stop, { once: true });
    });
  }

  /** The user's token; undefined without a user, or when the server has no authentication. One request at a time. */
  #tokenFor(member: Member, until: number): Promise<string | undefined> {
    const { username, password } = this.#options;
    if (username === undefined) return Promise.resolve(undefined);
    this.#token ??= { asked: this.#authenticate(member, { name: username, password }, until) };
    return this.#token.asked;
  }

  async #authenticate(member: Member, user: unknown, until: number): Promise<string | undefined> {
    try {
      const { token } = await this.#send<{ token: string }>(member, "Auth", "authenticate", user, undefined, until);
      if (this.#token) this.#token.value = token;
      return token;
    } catch (error) {
      const failure = failureOf(error);
      if (failure && authIsOff(failure)) return undefined;
      this.#token = undefined;
      throw error;
    }
  }

  /** True when the call failed for its token alone: that one is dropped, and the call was not carried out. */
  #renew(failure: CallFailure, token: string | undefined): boolean {
    if (this.#options.username === undefined || !needsNewToken(failure)) return false;
    if (this.#token?.value === token) this.#token = undefined; // else it was renewed meanwhile
    return true;
  }
}

function metadataOf(token: string | undefined): Metadata {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("token", token);
  return metadata;
}
