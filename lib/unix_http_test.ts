import { deepEqual, equal, throws } from "node:assert/strict";
import { NoAnswer, parseAnswer } from "./unix_http.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("parseAnswer() takes status and body of an answer with Content-Length", () => {
  const answer = parseAnswer(bytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nVary: x\r\n\r\nbody"));
  deepEqual(answer, { status: 200, body: "body" });
});

Deno.test("parseAnswer() joins chunks, which may hold line breaks and cut a character in two", () => {
  const text = bytes("ä");
  const head = bytes("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n1\r\n");
  const rest = [head, text.subarray(0, 1), bytes("\r\n1;x=y\r\n"), text.subarray(1), bytes("\r\n0\r\n\r\n")];
  const all = new Uint8Array(rest.flatMap((p) => [...p]));
  deepEqual(parseAnswer(all), { status: 503, body: "a\r\nä" });
});

Deno.test("parseAnswer() refuses an answer that is cut off anywhere", () => {
  const whole = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
  for (let n = 0; n < whole.length; n++) throws(() => parseAnswer(bytes(whole.slice(0, n))), NoAnswer, `${n} bytes`);
  const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
  for (let n = 0; n < chunked.indexOf("0\r\n\r\n"); n++) {
    throws(() => parseAnswer(bytes(chunked.slice(0, n))), NoAnswer, `${n} bytes`);
  }
  equal(parseAnswer(bytes(chunked)).body, "ab");
});
