import { attribute, attributesOf, join, type Request, text } from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";
import { Problem } from "../../lib/problem.ts";

/** Protocol of generic netlink, for RtSocket.open(). */
export const genericProtocol = 16;

/** The controller that knows the other families (linux/genetlink.h). */
const control = { id: 16, getFamily: 3, version: 1 };
const CTRL = { familyId: 1, familyName: 2 };

/** A request of a generic family: its command, version 1, and attributes. */
export const genericRequest = (family: number, command: number, ...attributes: Uint8Array[]): Request => ({
  type: family,
  flags: 0,
  body: join(Uint8Array.of(command, 1, 0, 0), ...attributes),
});

/** Attributes begin here in the body of a generic message. */
export const genericHeader = 4;

/** Asks for a family by its name. */
export const familyQuery = (name: string): Request =>
  genericRequest(control.id, control.getFamily, attribute(CTRL.familyName, text(name)));

/** The number of a family in the controller's answer. */
export function decodeFamily(body: Uint8Array): number | undefined {
  const id = attributesOf(body, genericHeader).get(CTRL.familyId);
  return id?.length === 2 ? id[0]! | (id[1]! << 8) : undefined;
}

/**
 * The number that this kernel gave a family; undefined = it has none, as without the module. The kernel loads modules
 * that it finds. @throws Problem "kernel".
 */
export function genericFamily(socket: RtSocket, name: string): number | undefined {
  const { error, messages } = socket.batch([familyQuery(name)])[0]!;
  if (isErrno(error, E.NOENT)) return undefined;
  if (error) throw new Problem({ code: "kernel", what: `netlink family ${name} is not told`, cause: error });
  return messages.map((m) => decodeFamily(m.body)).find((id) => id !== undefined);
}
