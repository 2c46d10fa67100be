import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp } from "../lib/ip.ts";
import { findSession, type SessionSources } from "./session.ts";

const nowhere: SessionSources = {
  own: undefined,
  parents: () => [],
  served: () => undefined,
  who: () => Promise.resolve(""),
};

async function found(sources: Partial<SessionSources>): Promise<string | undefined> {
  const session = await findSession({ ...nowhere, ...sources });
  if (!session) return undefined;
  const { client, clientPort, server, serverPort } = session;
  return `${formatIp(client)} ${clientPort} ${server ? formatIp(server) : "?"} ${serverPort}`;
}

Deno.test("the session is found in the own environment, in a parent's, in what sshd serves, or by who", async () => {
  const connection = "203.0.113.7 50122 10.0.0.5 2222",
    parent = `A=1\0SSH_CONNECTION=${connection}\0SSH_TTY=/dev/pts/0\0`;
  assert.equal(await found({ own: connection }), connection);
  assert.equal(
    await found({ parents: () => ["SUDO_USER=ann\0", parent, "SSH_CONNECTION=9.9.9.9 1 9.9.9.8 22\0"] }),
    connection,
  );
  assert.equal(await found({ served: () => connection }), connection);
  const who = () => Promise.resolve("ann      pts/0        2026-11-21 20:49 (2001:db8::7)\n");
  assert.equal(await found({ who }), "2001:db8::7 0 ? 22");
  assert.equal(await found({ own: "fe80::1%eth0 50122 fe80::2%eth0 22" }), "fe80::1 50122 fe80::2 22");
  assert.equal(await found({ own: connection, who: () => Promise.reject(new Error("not asked")) }), connection);
});

Deno.test("who sits at the machine has no session, nor has what comes from the machine itself", async () => {
  assert.equal(await found({}), undefined);
  assert.equal(await found({ own: "127.0.0.1 50122 127.0.0.1 22" }), undefined);
  assert.equal(await found({ own: "::1 50122 ::1 22" }), undefined);
  for (const told of ["ann tty1 2026-11-21 20:49", "ann :0 2026-11-21 20:49 (:0)", "ann pts/1 (laptop.example.org)"]) {
    assert.equal(await found({ who: () => Promise.resolve(told) }), undefined, told);
  }
});

Deno.test("any text in the environment is no reason to fail", async () => {
  await fc.assert(fc.asyncProperty(fc.string(), async (text) => {
    await found({ own: text, parents: () => [`SSH_CONNECTION=${text}`], who: () => Promise.resolve(text) });
  }));
});
