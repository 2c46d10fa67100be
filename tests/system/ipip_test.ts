import { emulatedTest } from "../lab/qemu/emulated_test_case.ts";

await emulatedTest({
  name: "IPIP carries pods' packets in a kernel that has it: Always, CrossSubnet, off",
  module: "ipip",
  program: "tests/system/_emulated_ipip.ts",
  parts: 5,
});
