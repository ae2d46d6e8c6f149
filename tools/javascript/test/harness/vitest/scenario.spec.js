// The scenario in an environment of vitest. Which one, and what the daemon is, stands in the configuration.
import { expect, test } from "vitest";

import * as luxcast from "../../../luxcast.js";
import { scenario } from "../scenario.js";

test("the scenario", async () => {
  expect(typeof document).toBe("object");
  const { LUXCAST_TEST_BASE: base, LUXCAST_TEST_TOKEN: token, LUXCAST_TEST_TRANSPORT: transport } = process.env;
  console.log(`said ${JSON.stringify(await scenario(luxcast, base, { token, transport }))}`);
});
