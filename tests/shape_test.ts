import assert from "node:assert/strict";
import { emptyNames, functionsOf, Shape, shapeOf } from "./shape.ts";

const root = new URL("..", import.meta.url).pathname;

Deno.test("no file is longer than 500 lines, 700 for a declaration", () => {
  const most = (file: string) => (/^datastore\/kinds\//.test(file) ? 700 : 500);
  const long = measured().files.filter((f) => f.lines > most(f.file)).map((f) => `${f.file}: ${f.lines} lines`);
  assert.deepEqual(long, []);
});

Deno.test("no function is longer than 100 lines", () => {
  const long = measured().functions.filter((f) => f.lines > 100).map((f) =>
    `${f.file}:${f.line} ${f.name}: ${f.lines}`
  );
  assert.deepEqual(long, []);
});

Deno.test("no file or folder has a name that names no thing", () => {
  const empty = measured().files.map((f) => f.file).filter((f) =>
    f.split("/").some((part) => emptyNames.includes(part.replace(/^_|(_test)?\.ts$/g, "")))
  );
  assert.deepEqual(empty, []);
});

Deno.test("functionsOf() finds functions, methods and arrows, and no calls", () => {
  const text = [
    "export function a(x: number): Map<string, number> {", // 1
    "  if (x) {",
    "    call(x);",
    "  }",
    "}", // 5
    "class C {",
    "  async #b(): Promise<void> {",
    "    const s = `}`; // }",
    "  }", // 9
    "}",
    "const c = async (y: string) => {",
    "};", // 12
    "const d = (y: string) => y;",
  ].join("\n");
  const found = functionsOf("x.ts", text).map((f) => [f.name, f.line, f.lines]);
  assert.deepEqual(found, [["a", 1, 5], ["#b", 7, 3], ["c", 11, 2]]);
});

function measured(): Shape {
  const texts = new Map<string, string>();
  const walk = (folder: string) => {
    for (const e of Deno.readDirSync(root + folder)) {
      const path = folder === "" ? e.name : `${folder}/${e.name}`;
      if (e.isDirectory && !/^(\.git|build|dist|\.cache|node_modules)$/.test(e.name)) walk(path);
      else if (e.name.endsWith(".ts") && !e.name.endsWith("_test.ts")) {
        texts.set(path, Deno.readTextFileSync(root + path));
      }
    }
  };
  walk("");
  return shapeOf(texts);
}
