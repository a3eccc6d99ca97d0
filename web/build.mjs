// Builds the page into the folder that is given: `node build.mjs FOLDER`.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const target = process.argv[2] ?? "dist";
rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
await build({
  entryPoints: { app: "src/app.tsx", stream: "src/live/stream_worker.ts" },
  outdir: target,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  sourcemap: false,
  logLevel: "warning",
});
cpSync("src/index.html", join(target, "index.html"));
cpSync("src/icon.svg", join(target, "icon.svg"));
let bytes = 0;
for (const name of readdirSync(target)) bytes += gzipSync(readFileSync(join(target, name))).length;
console.log(`${target}: ${(bytes / 1000).toFixed(1)} kB gzipped`);
