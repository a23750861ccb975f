import { defineConfig } from "vite";

// The built page is part of the Python package and not of the repository.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/sat2map/serve/page",
    emptyOutDir: true,
    assetsInlineLimit: 0, // what stands in a page as data: is what its policy is to forbid
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    license: { fileName: "assets/licences.md" }, // of what is bundled, whose authors ask for it
  },
  worker: { format: "es" },
});
