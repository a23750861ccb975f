// The page: photo on the left of the divider, what the model makes of it on the right.

import { LngLatBounds, type Map as MapView } from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import "./style.css";
import { CHOICES, listLayers } from "./choices";
import { updateExports } from "./exports";
import { addBasemap, addLayer, addVectors, photoOf } from "./layers";
import { fillPalette, listClasses, listStyles, loadShares, tellShares } from "./legend";
import { fail, find, left, page, remember, right, state } from "./page";
import { forgetPlace } from "./places";
import * as server from "./server";
import type { Scene } from "./server";
import { Swipe } from "./swipe";
import { onFocus } from "./tiles";
import "./warmth";

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

// Tiles under the pointer come first.

let pointer: [number, number] | undefined;
left.on("mousemove", ({ lngLat }) => (pointer = [lngLat.lng, lngLat.lat]));
left.on("mouseout", () => (pointer = undefined));
left.on("movestart", () => (pointer = undefined)); // until it moves again, on other ground
onFocus(() => pointer ?? left.getCenter().toArray());

// Scenes

async function open(scene: Scene, keepPlace: boolean): Promise<void> {
  page.current = scene;
  page.numbersZooms = [0, 0];
  document.title = `${scene.name} – sat2map`;
  find("notice").hidden = true;
  forgetPlace();
  for (const map of [left, right]) {
    for (const layer of map.getStyle().layers) map.removeLayer(layer.id);
    for (const source of Object.keys(map.getStyle().sources)) map.removeSource(source);
  }
  if (!keepPlace || state.layers.size === 0) {
    state.layers.clear();
    const first = CHOICES.find(([layer]) => scene.layers.includes(layer));
    if (first !== undefined) state.layers.set(first[0], 1);
  }
  page.classes = scene.layers.includes("classes") ? await server.legend(scene.id, "classes") : [];
  find("legend-section").hidden = page.classes.length === 0;
  find("command").hidden = !scene.layers.includes("photo");
  find("export-line").hidden = page.classes.length === 0;
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
  if (page.basemap !== undefined) for (const map of [left, right]) addBasemap(map, page.basemap);
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
  page.scenes = told.scenes.filter((scene) => scene.layers.length > 0);
  page.basemap = told.basemap;
  const select = find<HTMLSelectElement>("scene");
  find("scene-line").hidden = page.scenes.length === 1;
  for (const scene of page.scenes) select.append(new Option(scene.name, scene.id));
  const wanted = page.scenes.find((scene) => scene.id === state.scene) ?? page.scenes[0];
  if (wanted === undefined) throw new Error("There is nothing to show.");
  select.value = wanted.id;
  select.addEventListener("change", () => {
    const chosen = page.scenes.find((scene) => scene.id === select.value);
    if (chosen !== undefined) void open(chosen, false).catch(fail);
  });
  await Promise.all([loaded(left), loaded(right)]);
  await open(wanted, state.scene === null || wanted.id === state.scene);
  document.documentElement.dataset.ready = "1";
}

begin().catch(fail);
