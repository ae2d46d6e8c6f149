// What an id is and what a timestamp is: the tables that the daemon's tests read too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { inspect } from "node:util";

import { isId, readTimestamp } from "../luxcast.js";

const cases = (name) => JSON.parse(readFileSync(new URL(`../../../tests/cases/${name}.json`, import.meta.url), "utf8"));

test("ids are what the daemon takes for ids", () => {
  for (const { value, is_id } of cases("ids")) assert.equal(isId(value), is_id, JSON.stringify(value));
  assert.equal(isId(undefined), false);
  assert.equal(isId(Object("a")), false);
});

test("timestamps are read as the daemon reads them", () => {
  for (const { value, micros } of cases("timestamps")) {
    const expected = micros === null ? null : Math.floor(micros / 1000);
    assert.equal(readTimestamp(value), expected, JSON.stringify(value));
  }
});

test("timestamps at the edges of what is one", () => {
  const edges = [
    ["9999-12-31T23:59:59.999-23:59", 253_402_387_139_999],
    ["2025-01-15T10", null],
    ["2025-01-15T1030", null],
    ["20250115T10:30", null],
    ["20250115T1030", 1_736_937_000_000],
    ["0000-01-01T00:00:00Z", -62_167_219_200_000],
    ["0099-12-31T00:00:00Z", -59_011_545_600_000],
    ["2025-01-15T10:30:00+23:59", 1_736_850_660_000],
    ["2025-01-15T10:30:00+24:00", null],
    ["2025-01-15T10:30:60.5Z", 1_736_937_059_500],
    ["2025-01-15T", null],
    ["2025-01-15Z", null],
    ["20250115", null],
    ["2025-01-15T10:30:00Z\n", null],
    [1_736_937_000.123, 1_736_937_000_123],
    [1_736_937_000.9999, 1_736_937_000_999],
    [99_999_999_999, 99_999_999_999_000],
    [100_000_000_000, 100_000_000_000],
    [1e-7, 0],
    [-1e-7, -1],
    [-0, 0],
    [NaN, null],
    [-Infinity, null],
    [1_736_937_000n, null],
    [undefined, null],
    [new Date(0), null],
    [Object("2025-01-15"), null],
    [{ toString: 1, valueOf: 1 }, null],
  ];
  for (const [value, expected] of edges) assert.strictEqual(readTimestamp(value), expected, inspect(value));
});
