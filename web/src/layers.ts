// The layers of both maps.

import type { Map as MapView, RasterTileSource } from "maplibre-gl";
import { left, page, right, state } from "./page";
import * as server from "./server";
import type { LayerName, Scene } from "./server";

export function addressOf(scene: Scene, layer: LayerName): string {
  if (layer === "vectors") return `vector://scenes/${scene.id}/vectors/{z}/{x}/{y}.mvt?v=${page.version}`;
  const kind = layer === "classes" ? "numbers" : layer;
  const protocol = layer === "classes" ? "numbers" : "tile";
  const format = layer === "classes" ? "png" : "webp";
  const query = layer === "map" && state.style !== null ? `style=${encodeURIComponent(state.style)}&` : "";
  return `${protocol}://scenes/${scene.id}/${kind}/{z}/{x}/{y}.${format}?${query}v=${page.version}`;
}

export async function addLayer(map: MapView, scene: Scene, layer: LayerName, shown: boolean): Promise<void> {
  const told = await server.tileJson(scene.id, layer);
  if (layer === "classes") page.numbersZooms = [told.minzoom, told.maxzoom];
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
export async function addVectors(map: MapView, scene: Scene, shown: boolean): Promise<void> {
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

export function showLayer(name: LayerName, shown: boolean, opacity: number): void {
  for (const layer of right.getStyle().layers) {
    if (!("source" in layer) || layer.source !== name) continue;
    right.setLayoutProperty(layer.id, "visibility", shown ? "visible" : "none");
    right.setPaintProperty(layer.id, `${layer.type as "fill" | "line" | "circle" | "raster"}-opacity`, opacity);
  }
}

export function reload(): void {
  if (page.current === undefined) return;
  page.version += 1;
  for (const map of [left, right]) {
    for (const layer of ["photo", ...page.current.layers] as LayerName[]) {
      const source = map.getSource(layer) as RasterTileSource | undefined;
      const scene = layer === "photo" ? photoOf(page.current) : page.current;
      if (scene !== undefined) source?.setTiles([addressOf(scene, layer)]);
    }
  }
}

export function addBasemap(map: MapView, { tiles, attribution }: server.Basemap): void {
  map.addSource("basemap", {
    type: "raster",
    tiles: [tiles],
    tileSize: 256,
    maxzoom: 19,
    ...(attribution === undefined ? {} : { attribution }),
  });
  map.addLayer({ id: "basemap", type: "raster", source: "basemap", paint: { "raster-fade-duration": 0 } });
}

// A map that was written earlier is compared with a photo of the same ground, where there is one.
export function photoOf(scene: Scene): Scene | undefined {
  const [west, south, east, north] = scene.bounds;
  if (scene.layers.includes("photo")) return scene;
  return page.scenes.find(({ layers, bounds }) => {
    const [left, bottom, right, top] = bounds;
    return layers.includes("photo") && left < east && right > west && bottom < north && top > south;
  });
}
