import { ipBytes, parseIp } from "../../lib/ip.ts";
import { addressFamily, attribute, join, nested, NLM, type Request, u8 } from "../../kernel/rtnetlink/message.ts";
import type { RtSocket } from "../../kernel/rtnetlink/socket.ts";

const be = (n: number, bytes: number) =>
  new Uint8Array(Array.from({ length: bytes }, (_, i) => n >>> (8 * (bytes - 1 - i))));

/** A UDP flow: who asks whom, on which port, and who answers when it was translated. */
export type FlowWords = [source: string, destination: string, port: number, answers?: string];

/** Makes the kernel track flows as if their packets had passed. @returns how many it took. */
export function addFlows(socket: RtSocket, flows: FlowWords[]): number {
  return socket.batch(flows.map(newFlow)).filter((a) => !a.error).length;
}

function newFlow([s, d, port, answers = d]: FlowWords): Request {
  const source = parseIp(s);
  const [from, to] = source.v === 4 ? [1, 2] : [3, 4];
  const tuple = (type: number, src: string, dst: string, ports: [number, number]) =>
    nested(
      type,
      nested(1, attribute(from!, ipBytes(parseIp(src))), attribute(to!, ipBytes(parseIp(dst)))),
      nested(2, attribute(1, u8(17)), attribute(2, be(ports[0], 2)), attribute(3, be(ports[1], 2))),
    );
  return {
    type: 0x100,
    flags: NLM.CREATE | NLM.EXCL,
    body: join(
      new Uint8Array([addressFamily(source.v), 0, 0, 0]),
      tuple(1, s, d, [1024, port]),
      tuple(2, answers, s, [port, 1024]),
      attribute(7, be(600, 4)),
    ),
  };
}
