import { defineConfig } from "vite";

// The built page is part of the Python package and not of the repository.
export default defineConfig({
  base: "./",
  experimental: {
    // Scripts name files from where the page lies; in a notebook they have no address of their own.
    renderBuiltUrl: (name, { hostType }) => (hostType === "js" ? `./${name}` : { relative: true }),
  },
  build: {
    outDir: "../src/sat2map/serve/page",
    emptyOutDir: true,
    assetsInlineLimit: 0, // what stands in a page as data: is what its policy is to forbid
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: ["index.html", "src/notebook.ts"],
      preserveEntrySignatures: "exports-only", // the notebook's map is imported by others
      output: {
        entryFileNames: (chunk) => (chunk.name === "notebook" ? "notebook.js" : "assets/[name]-[hash].js"),
      },
    },
    chunkSizeWarningLimit: 2000,
    license: { fileName: "assets/licences.md" }, // of what is bundled, whose authors ask for it
  },
  worker: { format: "es" },
});
