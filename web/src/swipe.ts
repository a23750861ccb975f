// The divider between photo and map: by mouse, touch, keyboard and screen reader.

const STEP = 2;
const LEAP = 10;

export class Swipe {
  private share = 0;

  constructor(
    private readonly handle: HTMLElement,
    frame: HTMLElement,
    private readonly clip: HTMLElement,
    private readonly moved: (share: number) => void,
    share: number,
  ) {
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const place = frame.getBoundingClientRect();
      this.set((event.clientX - place.left) / place.width);
    });
    handle.addEventListener("keydown", (event) => {
      const percent = 100 * this.share;
      const next: Record<string, number> = {
        ArrowLeft: percent - STEP,
        ArrowDown: percent - STEP,
        ArrowRight: percent + STEP,
        ArrowUp: percent + STEP,
        PageDown: percent - LEAP,
        PageUp: percent + LEAP,
        Home: 0,
        End: 100,
      };
      const wanted = next[event.key];
      if (wanted === undefined) return;
      event.preventDefault();
      this.set(wanted / 100);
    });
    this.set(share);
  }

  set(share: number): void {
    this.share = Math.min(Math.max(share, 0), 1);
    const percent = 100 * this.share;
    this.handle.style.left = `${percent}%`;
    this.clip.style.clipPath = `inset(0 0 0 ${percent}%)`;
    this.handle.setAttribute("aria-valuenow", String(Math.round(percent)));
    this.handle.setAttribute("aria-valuetext", `Photo up to ${Math.round(percent)} percent of the width`);
    this.moved(this.share);
  }
}
