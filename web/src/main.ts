// The page: photo on the left of the divider, what the model makes of it on the right.

import {
  AttributionControl,
  LngLatBounds,
  Map as MapView,
  Marker,
  NavigationControl,
  type RasterTileSource,
  ScaleControl,
  setWorkerUrl,
} from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import "maplibre-gl/dist/maplibre-gl.css";
import "./style.css";
import * as link from "./link";
import * as server from "./server";
import type { LayerName, LegendClass, Scene } from "./server";
import { Swipe } from "./swipe";
import { countInView, loadInView, NOTHING, onAnswer, onFocus, palette, type View } from "./tiles";

setWorkerUrl(server.host?.worker ?? workerUrl);

const CHOICES: [LayerName, string][] = [
  ["map", "Map"],
  ["classes", "Classes"],
  ["confidence", "How sure"],
  ["vectors", "Vectors"],
];
const OWN = "model"; // the model's own colours, where they have no other name
const MOST_ASKED_MS = 1000;
const DIGITS = 7;
const isPlaced = server.host?.placed ?? true; // pictures without a place are shown in notebooks alone

const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const state = link.read(server.host?.view ?? location.hash);
let scenes: Scene[] = [];
let basemap: server.Basemap | undefined;
let current: Scene | undefined;
let classes: LegendClass[] = [];
let styles: string[] = [];
let version = 0;
let numbersZooms: [number, number] = [0, 0];
let marker: Marker | undefined;

const makeMap = (container: string, interactive: boolean): MapView =>
  new MapView({
    container,
    interactive,
    attributionControl: false,
    fadeDuration: 0,
    pitchWithRotate: false,
    dragRotate: false,
    touchPitch: false,
    style: { version: 8, sources: {}, layers: [] },
  });

const left = makeMap("left", true);
const right = makeMap("right", false);
left.touchZoomRotate.disableRotation();
left.addControl(new NavigationControl({ showCompass: false }), "top-right");
if (isPlaced) left.addControl(new ScaleControl(), "bottom-left");
left.addControl(new AttributionControl({ compact: true }), "bottom-right");
left.getCanvas().setAttribute("aria-label", "Map: move with the arrow keys, zoom with + and -");
right.getCanvas().setAttribute("aria-hidden", "true");
right.getCanvas().removeAttribute("aria-label"); // what it shows is told in words
right.getCanvas().removeAttribute("role");
right.getCanvas().tabIndex = -1;
left.on("move", () => {
  right.jumpTo({ center: left.getCenter(), zoom: left.getZoom() });
});

new Swipe(
  find("swipe"),
  find("maps"),
  find("clip"),
  (share) => {
    state.swipe = share;
    remember();
  },
  state.swipe,
);

function remember(): void {
  if (current === undefined) return;
  const { lat, lng } = left.getCenter();
  state.scene = current.id;
  state.place = { lat, lon: lng, zoom: left.getZoom() };
  if (server.host === undefined) history.replaceState(null, "", link.write(state));
  else server.host.view = link.write(state);
}

// Layers

function addressOf(scene: Scene, layer: LayerName): string {
  if (layer === "vectors") return `vector://scenes/${scene.id}/vectors/{z}/{x}/{y}.mvt?v=${version}`;
  const kind = layer === "classes" ? "numbers" : layer;
  const protocol = layer === "classes" ? "numbers" : "tile";
  const format = layer === "classes" ? "png" : "webp";
  const query = layer === "map" && state.style !== null ? `style=${encodeURIComponent(state.style)}&` : "";
  return `${protocol}://scenes/${scene.id}/${kind}/{z}/{x}/{y}.${format}?${query}v=${version}`;
}

async function addLayer(map: MapView, scene: Scene, layer: LayerName, shown: boolean): Promise<void> {
  const told = await server.tileJson(scene.id, layer);
  if (layer === "classes") numbersZooms = [told.minzoom, told.maxzoom];
  map.addSource(layer, {
    type: "raster",
    tiles: [addressOf(scene, layer)],
    tileSize: 256,
    minzoom: told.minzoom,
    maxzoom: told.maxzoom,
    bounds: scene.bounds[0] <= scene.bounds[2] ? scene.bounds : [-180, -85.05, 180, 85.05],
    ...(told.attribution === undefined ? {} : { attribution: told.attribution }),
  });
  map.addLayer({
    id: layer,
    type: "raster",
    source: layer,
    layout: { visibility: shown ? "visible" : "none" },
    paint: {
      "raster-fade-duration": 0,
      "raster-opacity": state.layers.get(layer) ?? 1,
      "raster-resampling": layer === "classes" ? "nearest" : "linear",
    },
  });
}

// An archive of vectors is drawn as the style beside it says, all but its background.
async function addVectors(map: MapView, scene: Scene, shown: boolean): Promise<void> {
  const [told, style] = await Promise.all([server.tileJson(scene.id, "vectors"), server.style(scene.id)]);
  map.addSource("vectors", {
    type: "vector",
    tiles: [addressOf(scene, "vectors")],
    minzoom: told.minzoom,
    maxzoom: told.maxzoom,
    ...(told.attribution === undefined ? {} : { attribution: told.attribution }),
  });
  for (const layer of style.layers) {
    if (layer.type !== "fill" && layer.type !== "line" && layer.type !== "circle") continue;
    map.addLayer({ ...layer, id: `vectors ${layer.id}`, source: "vectors" });
  }
  showLayer("vectors", shown, state.layers.get("vectors") ?? 1);
}

function showLayer(name: LayerName, shown: boolean, opacity: number): void {
  for (const layer of right.getStyle().layers) {
    if (!("source" in layer) || layer.source !== name) continue;
    right.setLayoutProperty(layer.id, "visibility", shown ? "visible" : "none");
    right.setPaintProperty(layer.id, `${layer.type as "fill" | "line" | "circle" | "raster"}-opacity`, opacity);
  }
}

function reload(): void {
  if (current === undefined) return;
  version += 1;
  for (const map of [left, right]) {
    for (const layer of ["photo", ...current.layers] as LayerName[]) {
      const source = map.getSource(layer) as RasterTileSource | undefined;
      const scene = layer === "photo" ? photoOf(current) : current;
      if (scene !== undefined) source?.setTiles([addressOf(scene, layer)]);
    }
  }
}

function listLayers(scene: Scene): void {
  const list = find("layers");
  list.replaceChildren();
  for (const [layer, title] of CHOICES) {
    if (!scene.layers.includes(layer)) continue;
    const item = document.createElement("li");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.id = `show-${layer}`;
    box.checked = state.layers.has(layer);
    const label = document.createElement("label");
    label.htmlFor = box.id;
    label.textContent = title;
    const opacity = document.createElement("input");
    opacity.type = "range";
    opacity.min = "0";
    opacity.max = "100";
    opacity.value = String(100 * (state.layers.get(layer) ?? 1));
    opacity.setAttribute("aria-label", `Opacity of ${title}`);
    opacity.title = `Opacity of ${title}`;
    const change = (): void => {
      const value = Number(opacity.value) / 100;
      if (box.checked) state.layers.set(layer, value);
      else state.layers.delete(layer);
      showLayer(layer, box.checked, value);
      showMapLegend();
      remember();
    };
    box.addEventListener("change", change);
    opacity.addEventListener("input", change);
    item.append(box, label, opacity);
    list.append(item);
  }
}

// Legend

function fillPalette(): void {
  palette.fill(0);
  for (const { number, colour } of classes) {
    if (state.off.has(number)) continue;
    const chosen = state.colours.get(number) ?? colour;
    for (let i = 0; i < 3; i++) palette[4 * number + i] = parseInt(chosen.slice(1 + 2 * i, 3 + 2 * i), 16);
    palette[4 * number + 3] = 255;
  }
}

function listClasses(): void {
  const list = find("legend");
  list.replaceChildren();
  for (const { number, name, colour } of classes) {
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
async function listStyles(scene: Scene): Promise<void> {
  styles = scene.layers.includes("map") ? await server.styles(scene.id) : [];
  if (!styles.includes(state.style ?? "")) state.style = null;
  const select = find<HTMLSelectElement>("style");
  select.replaceChildren(...styles.map((name) => new Option(name.replace(/\.json$/, ""), name)));
  select.value = state.style ?? styles[0] ?? "";
  find("style-line").hidden = styles.length < 2;
  await listMapClasses(scene);
}

async function listMapClasses(scene: Scene): Promise<void> {
  const drawn = styles.length === 0 ? [] : await server.legend(scene.id, "map", state.style);
  const items = drawn.map(({ name, colour }) => {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    swatch.title = colour;
    item.append(swatch, name.replaceAll("_", " "));
    return item;
  });
  if (current !== scene) return;
  find("map-legend").replaceChildren(...items);
  showMapLegend();
}

function showMapLegend(): void {
  find("map-legend-section").hidden = styles.length === 0 || !state.layers.has("map");
}

find("style").addEventListener("change", () => {
  if (current === undefined) return;
  const chosen = find<HTMLSelectElement>("style").value;
  state.style = chosen === styles[0] ? null : chosen;
  (right.getSource("map") as RasterTileSource | undefined)?.setTiles([addressOf(current, "map")]);
  void listMapClasses(current).catch(fail);
  remember();
});

// The part of a scene in view, at the zoom that the map shows; null where it shows none of it, or not yet.
function viewOf(scene: Scene): View | null {
  if (numbersZooms[1] === 0) return null;
  const bounds = left.getBounds();
  // Zooms of tiles of 256 pixels are one more than those of the map, which counts in 512.
  const zoom = Math.min(Math.max(Math.round(left.getZoom() + 1), numbersZooms[0]), numbersZooms[1]);
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
async function loadShares(): Promise<void> {
  const scene = current;
  const view = scene === undefined || classes.length === 0 ? null : viewOf(scene);
  if (scene === undefined || view === null || scene.bounds[2] < scene.bounds[0]) return;
  await loadInView(scene.id, view);
  if (current === scene) tellShares();
}

// What the canvas shows, in words.
function tellShares(): void {
  const view = current === undefined || classes.length === 0 ? null : viewOf(current);
  if (current === undefined || classes.length === 0) return;
  const counts = view === null ? [] : countInView(current.id, view);
  const whole = counts.reduce((sum, count, number) => (number === NOTHING ? sum : sum + count), 0);
  const words: string[] = [];
  for (const { number, name } of classes) {
    const percent = whole === 0 ? null : (100 * counts[number]!) / whole;
    find(`share-${number}`).textContent = percent === null ? "" : `${percent.toFixed(1)} %`;
    if (percent !== null && percent >= 0.1) words.push(`${name} ${percent.toFixed(0)} percent`);
  }
  const text = words.length === 0 ? "" : `In view: ${words.join(", ")}.`;
  if (find("shares").textContent !== text) find("shares").textContent = text;
}

// Places

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// It is asked for the place that is said, to a centimetre.
async function askPoint(longitude: number, latitude: number): Promise<void> {
  if (current === undefined) return;
  const [lon, lat] = [Number(longitude.toFixed(DIGITS)), Number(latitude.toFixed(DIGITS))];
  marker ??= new Marker({ color: "#c0392b" });
  marker.setLngLat([lon, lat]).addTo(left);
  const where = `${lat.toFixed(DIGITS)}, ${lon.toFixed(DIGITS)}`;
  if (current.layers.includes("vectors")) {
    find("place").textContent = `${where}: ${vectorsAt(lon, lat)}.`;
    return;
  }
  find("place").textContent = `${where}: asking…`;
  try {
    const told = await server.point(current.id, lon, lat);
    const sure = told.confidence === null ? "" : `, sure to ${Math.round(100 * told.confidence)} percent`;
    const metres = told.metres === null ? "" : ` Pixels of ${told.metres.toFixed(2)} m.`;
    find("place").textContent = `${where}: ${told.class ?? "nothing"}${sure}.${metres}`;
  } catch (error) {
    find("place").textContent = `${where}: ${reason(error)}`;
  }
}

function vectorsAt(lon: number, lat: number): string {
  const found = right.queryRenderedFeatures(right.project([lon, lat]));
  const names = found.map(({ sourceLayer, properties }) => `${properties.class ?? sourceLayer}`);
  return [...new Set(names)].join(", ") || "nothing";
}

if (isPlaced) left.on("click", (event) => void askPoint(event.lngLat.lng, event.lngLat.lat));

find("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = find<HTMLInputElement>("coordinates");
  const [lat, lon] = input.value.split(/[\s,;]+/).filter((part) => part !== "").map(Number);
  const fits = lat !== undefined && lon !== undefined && Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
  if (!fits || Number.isNaN(lat + lon)) {
    find("place").textContent = "Give latitude and longitude in degrees, such as 52.52, 13.40.";
    return;
  }
  left.jumpTo({ center: [lon, lat], zoom: Math.max(left.getZoom(), 15) });
  void askPoint(lon, lat);
});

// Taking it along

function box(): string {
  const bounds = left.getBounds();
  const parts = [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
  return parts.map((value) => value.toFixed(6)).join(",");
}

function updateExports(): void {
  if (current === undefined) return;
  const can = current.layers.includes("classes");
  for (const format of ["tif", "gpkg"]) {
    const anchor = find<HTMLAnchorElement>(`export-${format}`);
    anchor.href = `${server.base}${exportPath(current, format)}`;
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
      if (current === undefined) return;
      find("copied").textContent = "Writing…";
      download(current, format).then(
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
  if (current === undefined) return;
  const token = new URLSearchParams(location.search).get("token");
  const key = token === null ? "" : `?token=${encodeURIComponent(token)}`;
  void copy(`${server.base}scenes/${current.id}/WMTSCapabilities.xml${key}`);
});

const quoted = (text: string): string =>
  /^[\w.-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", `'\\''`)}'`;

find("command").addEventListener("click", () => {
  if (current !== undefined) {
    const style = state.style ?? styles[0] ?? OWN;
    const colours = style === OWN ? "" : ` --style ${quoted(style)}`;
    void copy(`sat2map translate ${quoted(current.name)} map.tif --bbox=${box()}${colours} --classes classes.tif`);
  }
});

function addBasemap(map: MapView, { tiles, attribution }: server.Basemap): void {
  map.addSource("basemap", {
    type: "raster",
    tiles: [tiles],
    tileSize: 256,
    maxzoom: 19,
    ...(attribution === undefined ? {} : { attribution }),
  });
  map.addLayer({ id: "basemap", type: "raster", source: "basemap", paint: { "raster-fade-duration": 0 } });
}

// Tiles under the pointer come first.

let pointer: [number, number] | undefined;
left.on("mousemove", ({ lngLat }) => (pointer = [lngLat.lng, lngLat.lat]));
left.on("mouseout", () => (pointer = undefined));
left.on("movestart", () => (pointer = undefined)); // until it moves again, on other ground
onFocus(() => pointer ?? left.getCenter().toArray());

// What is not translated yet

onAnswer((complete) => {
  if (complete || !find("notice").hidden) return;
  find("notice").hidden = false;
  find("notice").querySelector("span")!.textContent =
    "Not all of this is translated yet: zoom in, or translate all.";
});

async function watchWarmth(scene: Scene): Promise<void> {
  const text = find("notice").querySelector("span")!;
  const button = find("notice").querySelector("button")!;
  button.disabled = true;
  try {
    let told = await server.warm(scene.id);
    while (told.running && current === scene) {
      text.textContent = `Translating: ${told.done} of ${told.all} windows.`;
      await new Promise((resolve) => setTimeout(resolve, MOST_ASKED_MS));
      told = await server.warmth(scene.id);
      reload();
    }
    find("notice").hidden = true;
    reload();
  } catch (error) {
    text.textContent = reason(error);
  } finally {
    button.disabled = false;
  }
}

find("notice")
  .querySelector("button")!
  .addEventListener("click", () => current !== undefined && void watchWarmth(current));

// Scenes

// A map that was written earlier is compared with a photo of the same ground, where there is one.
function photoOf(scene: Scene): Scene | undefined {
  const [west, south, east, north] = scene.bounds;
  if (scene.layers.includes("photo")) return scene;
  return scenes.find(({ layers, bounds }) => {
    const [left, bottom, right, top] = bounds;
    return layers.includes("photo") && left < east && right > west && bottom < north && top > south;
  });
}

async function open(scene: Scene, keepPlace: boolean): Promise<void> {
  current = scene;
  numbersZooms = [0, 0];
  document.title = `${scene.name} – sat2map`;
  find("notice").hidden = true;
  marker?.remove();
  for (const map of [left, right]) {
    for (const layer of map.getStyle().layers) map.removeLayer(layer.id);
    for (const source of Object.keys(map.getStyle().sources)) map.removeSource(source);
  }
  if (!keepPlace || state.layers.size === 0) {
    state.layers.clear();
    const first = CHOICES.find(([layer]) => scene.layers.includes(layer));
    if (first !== undefined) state.layers.set(first[0], 1);
  }
  classes = scene.layers.includes("classes") ? await server.legend(scene.id, "classes") : [];
  find("legend-section").hidden = classes.length === 0;
  find("command").hidden = !scene.layers.includes("photo");
  find("export-line").hidden = classes.length === 0;
  fillPalette();
  listLayers(scene);
  listClasses();
  await listStyles(scene);
  const [west, south, east, north] = scene.bounds;
  const bounds = new LngLatBounds([west, south], [east < west ? east + 360 : east, north]);
  if (keepPlace && state.place !== null) {
    const { lat, lon, zoom } = state.place;
    left.jumpTo({ center: [lon, lat], zoom });
  } else {
    left.fitBounds(bounds, { padding: 16, animate: false });
  }
  if (basemap !== undefined) for (const map of [left, right]) addBasemap(map, basemap);
  const photo = photoOf(scene);
  if (photo !== undefined) {
    await addLayer(left, photo, "photo", true);
    await addLayer(right, photo, "photo", true);
  }
  for (const [layer] of CHOICES) {
    const shown = state.layers.has(layer);
    if (!scene.layers.includes(layer)) continue;
    if (layer === "vectors") await addVectors(right, scene, shown);
    else await addLayer(right, scene, layer, shown);
  }
  updateExports();
  remember();
}

left.on("moveend", () => {
  if (!find("notice").querySelector("button")!.disabled) find("notice").hidden = true;
  updateExports();
  remember();
});
right.on("render", () => delete document.documentElement.dataset.drawn);
right.on("idle", () => {
  document.documentElement.dataset.drawn = "1";
  tellShares();
  loadShares().catch(() => {}); // given up, or told by the map itself
});

const loaded = (map: MapView): Promise<void> =>
  new Promise((resolve) => {
    if (map.loaded()) resolve();
    else map.once("load", () => resolve());
  });

async function begin(): Promise<void> {
  const told = await server.scenes();
  scenes = told.scenes.filter((scene) => scene.layers.length > 0);
  basemap = told.basemap;
  const select = find<HTMLSelectElement>("scene");
  find("scene-line").hidden = scenes.length === 1;
  for (const scene of scenes) select.append(new Option(scene.name, scene.id));
  const wanted = scenes.find((scene) => scene.id === state.scene) ?? scenes[0];
  if (wanted === undefined) throw new Error("There is nothing to show.");
  select.value = wanted.id;
  select.addEventListener("change", () => {
    const chosen = scenes.find((scene) => scene.id === select.value);
    if (chosen !== undefined) void open(chosen, false).catch(fail);
  });
  await Promise.all([loaded(left), loaded(right)]);
  await open(wanted, state.scene === null || wanted.id === state.scene);
  document.documentElement.dataset.ready = "1";
}

function fail(error: unknown): void {
  find("place").textContent = reason(error);
}

begin().catch(fail);
