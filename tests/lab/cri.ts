import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** A client of a container runtime's CRI socket. Calls are by the interface's names and fields. */
export interface Cri extends Disposable {
  /**
   * Calls a method of runtime.v1.RuntimeService.
   * @throws Error with the runtime's own words, or when it takes longer than `deadlineMs` (default 60,000).
   */
  call<T = Record<string, unknown>>(method: string, request: unknown, deadlineMs?: number): Promise<T>;
}

type Method = (
  request: unknown,
  options: { deadline: Date },
  done: (error: grpc.ServiceError | null, answer: unknown) => void,
) => void;

/** Opens a client of the socket; the connection is made by the first call. */
export function openCri(socket: string): Cri {
  const definition = loadSync(new URL("./cri.proto", import.meta.url).pathname, { keepCase: true, defaults: true });
  const tree = grpc.loadPackageDefinition(definition) as unknown as {
    runtime: { v1: { RuntimeService: grpc.ServiceClientConstructor } };
  };
  const client = new tree.runtime.v1.RuntimeService(`unix:${socket}`, grpc.credentials.createInsecure());
  return {
    call: <T>(method: string, request: unknown, deadlineMs = 60_000) =>
      new Promise<T>((resolve, reject) => {
        const rpc = (client as unknown as Record<string, Method>)[method];
        if (!rpc) return reject(new Error(`CRI has no ${method} here`));
        rpc.call(client, request, { deadline: new Date(Date.now() + deadlineMs) }, (error, answer) => {
          if (error) reject(new Error(`${method}: ${error.details || error.message}`));
          else resolve(answer as T);
        });
      }),
    [Symbol.dispose]: () => client.close(),
  };
}
