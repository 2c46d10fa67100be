import { deepEqual, equal, rejects } from "node:assert/strict";
import { isProblem } from "../../lib/problem.ts";
import { Journal, writeEntry } from "../../agent/endpoints/journal.ts";

const attachment = { network: "net.a", containerId: "c-1", interfaceName: "eth0,odd.name" };
const entry = { attachment, endpointKey: "/k", link: { netns: "/n", mac: "02:00:00:00:00:01" } };

Deno.test("the journal outlives its process, whatever of an entry reached the disk", async (t) => {
  const dir = await Deno.makeTempDir({ prefix: "h5-journal-" });
  try {
    const again = async () => {
      const journal = new Journal(`${dir}/j`);
      await journal.scan();
      return journal.entries();
    };

    await t.step("an ADD and a DEL are read back as they were written", async () => {
      const journal = new Journal(`${dir}/j`);
      await journal.scan();
      await journal.begin(entry, 0);
      deepEqual(await again(), [{ ...entry, because: "add", time: "1970-01-01T00:00:00Z" }]);
      await journal.mustGo(entry, 1000);
      deepEqual(await again(), [{ ...entry, because: "delete", time: "1970-01-01T00:00:01Z" }]);
      await journal.drop(attachment);
      await journal.drop(attachment);
      deepEqual([journal.entries(), await again()], [[], []]);
    });

    await t.step("what the plugin wrote is found by the next scan; what we know of stays ours", async () => {
      const journal = new Journal(`${dir}/j`);
      await journal.begin(entry, 0);
      const other = { ...attachment, containerId: "c-2" };
      await writeEntry(`${dir}/j`, { attachment: other, because: "delete", time: "1970-01-01T00:00:09Z" });
      await journal.scan();
      deepEqual(journal.entries().map((e) => [e.attachment.containerId, e.because]), [["c-1", "add"], [
        "c-2",
        "delete",
      ]]);
      for (const a of [attachment, other]) await journal.drop(a);
    });

    await t.step("a torn, empty or strange file counts by its name; other files are nobody's", async () => {
      const file = `${dir}/j/net.a,c-1,eth0,odd.name.json`;
      for (const text of ["", '{"endpointKey":"/k"', "[]", '{"endpointKey":7,"link":{"netns":1},"time":{}}']) {
        await Deno.writeTextFile(file, text);
        deepEqual(await again(), [{ attachment, because: "delete", time: "" }], text);
      }
      await Deno.remove(file);
      for (const name of ["x.json", "a,b.json", "net,c,eth0.json.123.tmp", ".hidden"]) {
        await Deno.writeTextFile(`${dir}/j/${name}`, "{}");
      }
      deepEqual(await again(), []);
    });

    await t.step("a disk that refuses is a Problem, and nothing is remembered", async () => {
      await Deno.writeTextFile(`${dir}/file`, "");
      const journal = new Journal(`${dir}/file`);
      for (const work of [() => journal.scan(), () => journal.begin(entry, 0), () => journal.mustGo(entry, 0)]) {
        await rejects(work, (error: unknown) => isProblem(error, "unavailable"));
      }
      equal(journal.entries().length, 0);
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
