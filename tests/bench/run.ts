/** `deno task bench NAME [option…]`: runs one bench and prints its table. Exit code 1 when a call failed or leaked. */
const benches: Record<string, () => Promise<{ bench(args: string[]): Promise<number> }>> = {
  cni: () => import("./cni.ts"),
  mirror: () => import("./mirror.ts"),
  store: () => import("./store.ts"),
  policy: () => import("./policy.ts"),
  routes: () => import("./routes.ts"),
  throughput: () => import("./throughput.ts"),
  controllers: () => import("./controllers.ts"),
};

const [name, ...args] = Deno.args;
const load = benches[name ?? ""];
if (!load) console.error(`usage: deno task bench ${Object.keys(benches).join(" | ")} [option…]`);
Deno.exit(load ? await (await load()).bench(args) : 2);
