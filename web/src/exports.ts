// Taking it along: files of what is in view, an address for QGIS, a command.

import { find, isPlaced, left, OWN, page, reason, state } from "./page";
import * as server from "./server";
import type { Scene } from "./server";

function box(): string {
  const bounds = left.getBounds();
  const parts = [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
  return parts.map((value) => value.toFixed(6)).join(",");
}

export function updateExports(): void {
  if (page.current === undefined) return;
  const can = page.current.layers.includes("classes");
  for (const format of ["tif", "gpkg"]) {
    const anchor = find<HTMLAnchorElement>(`export-${format}`);
    anchor.href = `${server.base}${exportPath(page.current, format)}`;
    anchor.hidden = !can;
  }
}

const exportPath = (scene: Scene, format: string): string =>
  `scenes/${scene.id}/export?bbox=${box()}&format=${format}`;

// A notebook has no address that a link could lead to.
async function download(scene: Scene, format: string): Promise<void> {
  const answer = await server.ask(exportPath(scene, format));
  if (!answer.ok) throw new Error((await answer.json()).detail);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = `${scene.id}.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

if (server.host !== undefined) {
  find("qgis").hidden = true;
  for (const id of ["place-section", "take-section"]) find(id).hidden = !isPlaced;
  for (const format of ["tif", "gpkg"]) {
    find(`export-${format}`).addEventListener("click", (event) => {
      event.preventDefault();
      if (page.current === undefined) return;
      find("copied").textContent = "Writing…";
      download(page.current, format).then(
        () => (find("copied").textContent = ""),
        (error: unknown) => (find("copied").textContent = reason(error)),
      );
    });
  }
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    find("copied").textContent = `Copied: ${text}`;
  } catch {
    find("copied").textContent = text; // to be copied by hand
  }
}

find("qgis").addEventListener("click", () => {
  if (page.current === undefined) return;
  const token = new URLSearchParams(location.search).get("token");
  const key = token === null ? "" : `?token=${encodeURIComponent(token)}`;
  void copy(`${server.base}scenes/${page.current.id}/WMTSCapabilities.xml${key}`);
});

const quoted = (text: string): string =>
  /^[\w.-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", `'\\''`)}'`;

find("command").addEventListener("click", () => {
  if (page.current !== undefined) {
    const style = state.style ?? page.styles[0] ?? OWN;
    const colours = style === OWN ? "" : ` --style ${quoted(style)}`;
    void copy(`sat2map translate ${quoted(page.current.name)} map.tif --bbox=${box()}${colours} --classes classes.tif`);
  }
});
