// Builds src/ into ../static, which is committed and shipped: users need no Node.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { defineConfig, type Plugin } from "vite";

const HERE = import.meta.dirname;
const OUT = join(HERE, "../static");
const SHIPPED = ["preact", "@preact/signals", "@preact/signals-core", "uplot"];

function files(folder: string): string[] {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name));
}

/** One digest over names and contents, in the order of the names; tests/web/test_static.py computes the same. */
function digest(root: string, paths: string[]): string {
  const hash = createHash("sha256");
  const named = paths.map((path) => [relative(root, path).replaceAll("\\", "/"), path] as const);
  for (const [name, path] of named.sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    hash.update(`${name}\0`).update(createHash("sha256").update(readFileSync(path)).digest());
  }
  return hash.digest("hex");
}

/** Writes which sources this build is of, and the licences of what is in it. */
function provenance(): Plugin {
  return {
    name: "provenance",
    closeBundle() {
      const licences = SHIPPED.map((name) => {
        const text = readFileSync(join(HERE, "node_modules", name, "LICENSE"), "utf8").trim();
        return `${name}\n\n${text}\n`;
      });
      writeFileSync(join(OUT, "licences.txt"), licences.join("\n----\n\n"));
      const top = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];
      const sources = [...files(join(HERE, "src")), ...files(join(HERE, "public")), ...top.map((n) => join(HERE, n))];
      const built = files(OUT).filter((path) => !path.endsWith("build.json"));
      const text = JSON.stringify({ sources: digest(HERE, sources), built: digest(OUT, built) }, null, 2);
      writeFileSync(join(OUT, "build.json"), `${text}\n`);
    },
  };
}

export default defineConfig({
  root: HERE,
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "app.js",
        chunkFileNames: "[name].js",
        assetFileNames: "app[extname]",
      },
    },
  },
  plugins: [provenance()],
});
