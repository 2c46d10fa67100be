import { deepEqual, equal, throws } from "node:assert/strict";
import { addCount, decodeHandle, encodeHandle, isSpent, newHandle, setCount } from "./handle.ts";

Deno.test("a handle is written as Calico writes it, blocks in order", () => {
  const handle = addCount(addCount(addCount(newHandle, "10.9.0.0/30", 1), "10.10.0.0/30", 2), "10.9.0.0/30", 1);
  equal(encodeHandle(handle), '{"block":{"10.10.0.0/30":2,"10.9.0.0/30":2},"deleted":false}');
});

Deno.test("unknown members survive, and a count of zero or less leaves the block out", () => {
  const handle = decodeHandle('{"block":{"a":1,"b":3},"deleted":false,"extra":[1]}', "k");
  equal(encodeHandle(addCount(handle, "a", -2)), '{"block":{"b":3},"deleted":false,"extra":[1]}');
  equal(isSpent(setCount(setCount(handle, "a", 0), "b", 0)), true);
  deepEqual([...handle.counts], [["a", 1], ["b", 3]], "the handle itself is not changed");
});

Deno.test("decodeHandle() refuses what is no handle and takes one without blocks", () => {
  for (const text of ["", "7", '{"block":[]}', '{"block":{"a":"1"}}', '{"block":{"a":1.5}}']) {
    throws(() => decodeHandle(text, "k"), /IPAM handle/);
  }
  equal(isSpent(decodeHandle('{"deleted":false}', "k")), true);
});
