import { withoutCommentsAndStrings } from "./layers.ts";

/** One function: name, place, length in lines from head to closing brace. */
export interface FunctionShape {
  file: string;
  line: number;
  name: string;
  lines: number;
}

/** The size of a set of files. */
export interface Shape {
  files: { file: string; lines: number }[];
  functions: FunctionShape[];
  /** Files of each folder, tests not counted. */
  folders: Map<string, number>;
}

/** Words that name no thing. */
export const emptyNames = [
  "utils",
  "util",
  "common",
  "helpers",
  "helper",
  "misc",
  "shared",
  "base",
  "types",
  "manager",
];

/** Measures files given as path and text. */
export function shapeOf(texts: Map<string, string>): Shape {
  const files = [...texts].map(([file, text]) => ({ file, lines: text.trimEnd().split("\n").length }));
  const functions = [...texts].flatMap(([file, text]) => functionsOf(file, text));
  const folders = new Map<string, number>();
  for (const { file } of files) {
    const folder = file.includes("/") ? file.slice(0, file.lastIndexOf("/")) : ".";
    folders.set(folder, (folders.get(folder) ?? 0) + 1);
  }
  return { files, functions, folders };
}

const head =
  /(?:\bfunction\*?\s*([\w$]*)|(?:^|\n)\s+(?:(?:async|static|override|get|set|private|public)\s+)*\*?([#\w$]+)\s*(?:<[^>]*>)?|([\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?)\s*(?:<[^>(]*>)?\(/g;
const keywords = new Set([
  "if",
  "for",
  "while",
  "switch",
  "catch",
  "return",
  "await",
  "new",
  "typeof",
  "super",
  "constructor",
]);

/** Functions, methods and arrow functions with a body in braces. Found by their looks, not by a parser: close enough. */
export function functionsOf(file: string, text: string): FunctionShape[] {
  const code = keepLines(text);
  const found: FunctionShape[] = [];
  for (const match of code.matchAll(head)) {
    const name = match[1] ?? match[2] ?? match[3] ?? "";
    if (keywords.has(name)) continue;
    const open = match.index + match[0].length - 1;
    const body = bodyAfter(code, matching(code, open));
    if (body === undefined) continue;
    const start = match.index + (match[0].startsWith("\n") ? 1 : 0);
    const line = lineAt(code, start);
    found.push({ file, line, name, lines: lineAt(code, matching(code, body)) - line + 1 });
  }
  return found;
}

/** The text without comments and strings, each still on its line. */
function keepLines(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, " ");
  const comments = text.replace(/\/\*[\s\S]*?\*\//g, blank);
  return comments.split("\n").map((line) => withoutCommentsAndStrings(line)).join("\n").replace(/`[^`]*`/g, blank);
}

/** Index of the bracket that closes the one at `open`; the end of the text when none does. */
function matching(code: string, open: number): number {
  let depth = 0;
  for (let i = open; i < code.length; i++) {
    if ("({[".includes(code[i]!)) depth++;
    else if (")}]".includes(code[i]!) && --depth === 0) return i;
  }
  return code.length - 1;
}

/** Index of the brace that opens the body behind the parameters that end at `close`; undefined for a call. */
function bodyAfter(code: string, close: number): number | undefined {
  const rest = /^\)\s*(?::\s*(?:[^={};]|\{[^{}]*\}(?=\s*[\[|&>]))*?)?(?:=>\s*)?\{/.exec(code.slice(close, close + 400));
  return rest ? close + rest[0].length - 1 : undefined;
}

const lineAt = (code: string, index: number) => code.slice(0, index).split("\n").length;

/** The value below which a share `p` of the numbers lies. */
export function quantile(numbers: number[], p: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * p) - 1)] ?? 0;
}
