// The page in the environment is one of the daemon's own origin, as the live page is.
import { defineConfig } from "vitest/config";

const url = process.env.LUXCAST_TEST_BASE.replace(/^ws/, "http");

export default defineConfig({
  cacheDir: process.env.LUXCAST_TEST_CACHE,
  test: {
    include: ["scenario.spec.js"],
    testTimeout: 60_000,
    environment: process.env.LUXCAST_TEST_ENVIRONMENT,
    environmentOptions: { jsdom: { url }, happyDOM: { url } },
  },
});
