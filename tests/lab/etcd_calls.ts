import { type Client, credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { Message } from "../../store/protobuf.ts";
import { messages, type WatchRequest, type WatchResponse } from "../../store/messages.ts";

/** What a call came to: the answer, or gRPC's status with etcd's words. */
export type Outcome<T> = { answer: T } | { code: number; details: string };

/** An etcd, or what speaks like one, by its bare gRPC calls: nothing is retried, nothing is put in other words. */
export class EtcdCalls implements Disposable {
  readonly #client: Client;

  /** @param target `127.0.0.1:2379`. */
  constructor(target: string) {
    const Client = makeGenericClientConstructor({}, "etcd");
    this.#client = new Client(target, credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      "grpc.enable_retries": 0,
    });
  }

  /** One request. @param path `KV/Range`. */
  call<Q, A>(
    path: string,
    request: Message<Q>,
    answer: Message<A>,
    value: Q,
    deadlineMs = 10_000,
  ): Promise<Outcome<A>> {
    return new Promise((resolve) => {
      this.#client.makeUnaryRequest(
        `/etcdserverpb.${path}`,
        (v: Q) => asBuffer(request.encode(v)),
        (bytes: Uint8Array) => answer.decode(bytes),
        value,
        { deadline: Date.now() + deadlineMs },
        (error, result) => resolve(error ? { code: error.code, details: error.details } : { answer: result as A }),
      );
    });
  }

  /** A stream in both directions. */
  stream<Q, A>(path: string, request: Message<Q>, answer: Message<A>, take: (answer: A) => void): CallStream<Q> {
    const duplex = this.#client.makeBidiStreamRequest(
      `/etcdserverpb.${path}`,
      (v: Q) => asBuffer(request.encode(v)),
      (bytes: Uint8Array) => answer.decode(bytes),
    );
    duplex.on("data", take);
    duplex.on("error", () => {}); // it was cancelled, or the server is gone
    return { write: (value) => void duplex.write(value), [Symbol.dispose]: () => duplex.cancel() };
  }

  /** A watch stream. */
  watch(take: (answer: WatchResponse) => void): CallStream<WatchRequest> {
    return this.stream("Watch/Watch", messages.watchRequest, messages.watchResponse, take);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** The client's end of a stream. */
export interface CallStream<Q> extends Disposable {
  write(value: Q): void;
}

const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
