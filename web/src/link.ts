// The address of a view: scene, place, layers, classes and the divider, behind the #.

import type { LayerName } from "./server";

export interface State {
  scene: string | null;
  place: { lat: number; lon: number; zoom: number } | null;
  layers: Map<LayerName, number>;
  style: string | null;
  off: Set<number>;
  colours: Map<number, string>;
  swipe: number;
}

const number = (text: string | null | undefined): number | null => {
  const value = Number(text);
  return text === null || text === undefined || text === "" || !Number.isFinite(value) ? null : value;
};

export function read(hash: string): State {
  const told = new URLSearchParams(hash.replace(/^#/, ""));
  const [zoom, lat, lon] = (told.get("map") ?? "").split("/").map((text) => number(text));
  const layers = new Map<LayerName, number>();
  for (const part of (told.get("layers") ?? "").split(",")) {
    const [name, opacity] = part.split(":");
    if (name === "map" || name === "classes" || name === "confidence" || name === "vectors") {
      layers.set(name, Math.min(Math.max(number(opacity) ?? 1, 0), 1));
    }
  }
  const off = new Set((told.get("off") ?? "").split(",").flatMap((text) => number(text) ?? []));
  const colours = new Map<number, string>();
  for (const part of (told.get("colours") ?? "").split(",")) {
    const found = /^(\d{1,3}):([0-9a-f]{6})$/.exec(part);
    if (found !== null) colours.set(Number(found[1]), `#${found[2]}`);
  }
  const known = typeof zoom === "number" && typeof lat === "number" && typeof lon === "number";
  return {
    scene: told.get("scene"),
    place: known && Math.abs(lat) <= 90 ? { lat, lon, zoom } : null,
    layers,
    style: told.get("style"),
    off,
    colours,
    swipe: Math.min(Math.max(number(told.get("swipe")) ?? 0.5, 0), 1),
  };
}

export function write(state: State): string {
  const told: string[] = [];
  if (state.scene !== null) told.push(`scene=${encodeURIComponent(state.scene)}`);
  if (state.place !== null) {
    const { lat, lon, zoom } = state.place;
    told.push(`map=${zoom.toFixed(2)}/${lat.toFixed(6)}/${lon.toFixed(6)}`);
  }
  const layers = [...state.layers].map(([name, opacity]) => `${name}:${Number(opacity.toFixed(2))}`);
  if (layers.length > 0) told.push(`layers=${layers.join(",")}`);
  if (state.style !== null) told.push(`style=${encodeURIComponent(state.style)}`);
  if (state.off.size > 0) told.push(`off=${[...state.off].sort((a, b) => a - b).join(",")}`);
  const colours = [...state.colours].map(([key, colour]) => `${key}:${colour.slice(1)}`);
  if (colours.length > 0) told.push(`colours=${colours.join(",")}`);
  told.push(`swipe=${state.swipe.toFixed(2)}`);
  return `#${told.join("&")}`;
}
