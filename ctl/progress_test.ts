import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Progress } from "./progress.ts";

Deno.test("work that takes longer than a second tells what it does, and leaves no trace", async () => {
  const clock = new FakeClock();
  let text = "";
  {
    using progress = new Progress({ terminal: true, clock, err: (t) => void (text += t) });
    progress.step("looking at this");
    await clock.advance(900);
    assert.equal(text, "");
    await clock.advance(200);
    assert.equal(text, "\rlooking at this …");
    progress.step("that");
    assert.equal(text, "\rlooking at this …\rthat …           ");
  }
  assert.match(text, /\r {6}\r$/);
});

Deno.test("short work, and work whose errors nobody watches, says nothing of itself", async () => {
  const clock = new FakeClock();
  let text = "";
  const err = (t: string) => void (text += t);
  for (const terminal of [true, false]) {
    using progress = new Progress({ terminal, clock, err });
    progress.step("short");
    if (!terminal) await clock.advance(5_000);
  }
  assert.equal(text, "");
});
