import assert from "node:assert/strict";
import { isProblem } from "../lib/problem.ts";
import { commonFlags, type Flag, parseArguments } from "./command.ts";
import { commands } from "./commands/index.ts";
import { commandHelp } from "./help.ts";

const flags: Flag[] = [
  { name: "output", short: "o", value: "FORMAT", help: "" },
  { name: "all-namespaces", short: "Aa", help: "" },
  { name: "export", help: "" },
  { name: "filename", short: "f", value: "FILE", multiple: true, help: "" },
];

const refusal = (args: string[]) => {
  try {
    parseArguments(args, [...flags, ...commonFlags]);
  } catch (error) {
    if (isProblem(error, "bad-input")) return error.what;
    throw error;
  }
};

Deno.test("flags may stand anywhere, in every form", () => {
  for (
    const line of [
      "get np -o wide -A",
      "get -owide -a np",
      "get --output=wide np --all-namespaces",
      "-A get -o=wide np",
    ]
  ) {
    const { words, flags: values } = parseArguments(line.split(" "), [...flags, ...commonFlags]);
    assert.deepEqual(words, ["get", "np"], line);
    assert.equal(values.text("output"), "wide", line);
    assert.ok(values.on("all-namespaces") && !values.on("export"), line);
  }
});

Deno.test("a value may look like a flag, be empty, or come twice", () => {
  const { flags: values } = parseArguments(["-f", "-", "--filename=", "--export=false"], flags);
  assert.deepEqual(values.texts("filename"), ["-", ""]);
  assert.ok(!values.on("export"));
});

Deno.test("joined switches are taken apart, and -- ends flags", () => {
  const { words, flags: values } = parseArguments(["-Ao", "yaml", "--", "-x", "--y"], flags);
  assert.ok(values.on("all-namespaces"));
  assert.equal(values.text("output"), "yaml");
  assert.deepEqual(words, ["-x", "--y"]);
});

Deno.test("what cannot be a flag is refused in calicoctl's words", () => {
  assert.equal(refusal(["--frob"]), "unknown flag: --frob");
  assert.equal(refusal(["-Az"]), "unknown shorthand flag: 'z' in -Az");
  assert.equal(refusal(["-o"]), "flag needs an argument: 'o' in -o");
  assert.equal(refusal(["--output"]), "flag needs an argument: --output");
  assert.match(refusal(["-l", "loud"])!, /^unknown log level: loud, expected one of: panic, fatal/);
});

Deno.test("every command has help that names its flags, and no flag has two meanings", () => {
  for (const command of commands) {
    const help = commandHelp(command, "tortie ctl");
    assert.ok(help.startsWith(command.summary));
    const all = [...command.flags, ...commonFlags];
    for (const { name } of all) assert.ok(help.includes(`--${name}`), `${command.words.join(" ")} --${name}`);
    const shorts = all.flatMap((f) => [...f.short ?? ""]);
    assert.deepEqual(shorts.filter((s, i) => shorts.indexOf(s) !== i), [], command.words.join(" "));
  }
});
