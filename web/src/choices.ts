// The list of layers, each with its switch and its opacity.

import { showLayer } from "./layers";
import { showMapLegend } from "./legend";
import { find, remember, state } from "./page";
import type { LayerName, Scene } from "./server";

export const CHOICES: [LayerName, string][] = [
  ["map", "Map"],
  ["classes", "Classes"],
  ["confidence", "How sure"],
  ["vectors", "Vectors"],
];

export function listLayers(scene: Scene): void {
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
