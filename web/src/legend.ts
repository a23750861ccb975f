// The legends: colours of the classes, styles of the map, and how much of the view is of each class.

import type { RasterTileSource } from "maplibre-gl";
import { addressOf, reload } from "./layers";
import { fail, find, left, page, remember, right, state } from "./page";
import * as server from "./server";
import type { Scene } from "./server";
import { countInView, loadInView, NOTHING, palette, type View } from "./tiles";

export function fillPalette(): void {
  palette.fill(0);
  for (const { number, colour } of page.classes) {
    if (state.off.has(number)) continue;
    const chosen = state.colours.get(number) ?? colour;
    for (let i = 0; i < 3; i++) palette[4 * number + i] = parseInt(chosen.slice(1 + 2 * i, 3 + 2 * i), 16);
    palette[4 * number + 3] = 255;
  }
}

export function listClasses(): void {
  const list = find("legend");
  list.replaceChildren();
  for (const { number, name, colour } of page.classes) {
    const item = document.createElement("li");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.id = `class-${number}`;
    box.checked = !state.off.has(number);
    const label = document.createElement("label");
    label.htmlFor = box.id;
    label.textContent = name;
    const share = document.createElement("span");
    share.className = "share";
    share.id = `share-${number}`;
    const chosen = document.createElement("input");
    chosen.type = "color";
    chosen.value = state.colours.get(number) ?? colour;
    chosen.setAttribute("aria-label", `Colour of ${name}`);
    const change = (): void => {
      if (box.checked) state.off.delete(number);
      else state.off.add(number);
      if (chosen.value === colour) state.colours.delete(number);
      else state.colours.set(number, chosen.value);
      fillPalette();
      reload();
      remember();
    };
    box.addEventListener("change", change);
    chosen.addEventListener("change", change);
    item.append(box, label, share, chosen);
    list.append(item);
  }
}

// The map has colours of its own, which may be chosen.
export async function listStyles(scene: Scene): Promise<void> {
  page.styles = scene.layers.includes("map") ? await server.styles(scene.id) : [];
  if (!page.styles.includes(state.style ?? "")) state.style = null;
  const select = find<HTMLSelectElement>("style");
  select.replaceChildren(...page.styles.map((name) => new Option(name.replace(/\.json$/, ""), name)));
  select.value = state.style ?? page.styles[0] ?? "";
  find("style-line").hidden = page.styles.length < 2;
  await listMapClasses(scene);
}

async function listMapClasses(scene: Scene): Promise<void> {
  const drawn = page.styles.length === 0 ? [] : await server.legend(scene.id, "map", state.style);
  const items = drawn.map(({ name, colour }) => {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    swatch.title = colour;
    item.append(swatch, name.replaceAll("_", " "));
    return item;
  });
  if (page.current !== scene) return;
  find("map-legend").replaceChildren(...items);
  showMapLegend();
}

export function showMapLegend(): void {
  find("map-legend-section").hidden = page.styles.length === 0 || !state.layers.has("map");
}

find("style").addEventListener("change", () => {
  if (page.current === undefined) return;
  const chosen = find<HTMLSelectElement>("style").value;
  state.style = chosen === page.styles[0] ? null : chosen;
  (right.getSource("map") as RasterTileSource | undefined)?.setTiles([addressOf(page.current, "map")]);
  void listMapClasses(page.current).catch(fail);
  remember();
});

// The part of a scene in view, at the zoom that the map shows; null where it shows none of it, or not yet.
function viewOf(scene: Scene): View | null {
  if (page.numbersZooms[1] === 0) return null;
  const bounds = left.getBounds();
  // Zooms of tiles of 256 pixels are one more than those of the map, which counts in 512.
  const zoom = Math.min(Math.max(Math.round(left.getZoom() + 1), page.numbersZooms[0]), page.numbersZooms[1]);
  const [west, south, east, north] = scene.bounds;
  const crosses = east < west; // the antimeridian
  const view = {
    west: crosses ? bounds.getWest() : Math.max(bounds.getWest(), west),
    south: Math.max(bounds.getSouth(), south),
    east: crosses ? bounds.getEast() : Math.min(bounds.getEast(), east),
    north: Math.min(bounds.getNorth(), north),
    zoom,
  };
  return view.west < view.east && view.south < view.north ? view : null;
}

// Also where the layer of the classes is not shown, what the canvas shows is told.
export async function loadShares(): Promise<void> {
  const scene = page.current;
  const view = scene === undefined || page.classes.length === 0 ? null : viewOf(scene);
  if (scene === undefined || view === null || scene.bounds[2] < scene.bounds[0]) return;
  await loadInView(scene.id, view);
  if (page.current === scene) tellShares();
}

// What the canvas shows, in words.
export function tellShares(): void {
  const view = page.current === undefined || page.classes.length === 0 ? null : viewOf(page.current);
  if (page.current === undefined || page.classes.length === 0) return;
  const counts = view === null ? [] : countInView(page.current.id, view);
  const whole = counts.reduce((sum, count, number) => (number === NOTHING ? sum : sum + count), 0);
  const words: string[] = [];
  for (const { number, name } of page.classes) {
    const percent = whole === 0 ? null : (100 * counts[number]!) / whole;
    find(`share-${number}`).textContent = percent === null ? "" : `${percent.toFixed(1)} %`;
    if (percent !== null && percent >= 0.1) words.push(`${name} ${percent.toFixed(0)} percent`);
  }
  const text = words.length === 0 ? "" : `In view: ${words.join(", ")}.`;
  if (find("shares").textContent !== text) find("shares").textContent = text;
}
