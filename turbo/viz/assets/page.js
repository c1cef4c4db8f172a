// The controls: one slider over the blocks and one choice of layer for all images, and what a patch belongs to.

const LAYERS = {
  groups: ["groups", "Patches of one token share its mean colour and an outline, and need not touch. Point at one to see all."],
  value: ["value A", "Semantic value: the attention that a token gets, as a multiple of the average. What nobody attends to may merge."],
  redundancy: ["redundancy R", "Mutual redundancy: the cosine similarity of a token and the one it would merge into. What is alike may merge."],
  degree: ["degree E", "Information degree: the strategy's priority, made of R and A, in its order within the block. The highest merge."],
};
const SHORT = { value: "A, 1 is average", redundancy: "R, to its partner", degree: "E, the priority" };

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const steps = data.unit === "step"; // each step starts from all tokens again
const depths = [...new Set(data.images.flatMap((image) => image.blocks.map((block) => block.depth)))].sort((a, b) => a - b);
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const state = { position: depths.length, layer: "groups", timer: 0 };
const views = [];

const number = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : value > 0 ? "∞" : "−∞").replace("-", "−");

function make(tag, given = {}, ...children) {
  const element = Object.assign(document.createElement(tag), given);
  element.append(...children);
  return element;
}

/** The last block of an image up to the slider's position, and the one whose scores are shown (the first, before any). */
function reached(image) {
  const upto = state.position ? depths[state.position - 1] : -Infinity;
  const done = image.blocks.filter((block) => block.depth <= upto);
  const block = done.at(-1);
  return { block, scored: block || image.blocks[0], before: done.at(-2)?.groups || image.alone, groups: block?.groups || image.alone };
}


function countsOf(images) {
  const left = images.map((image) => reached(image).block?.left ?? image.blocks[0].entered);
  const first = images.map((image) => image.blocks[0].entered);
  const span = (found) => (Math.min(...found) === Math.max(...found) ? `${found[0]}` : `${Math.min(...found)}–${Math.max(...found)}`);
  return { left: span(left), first: span(first), share: left.reduce((a, b) => a + b) / first.reduce((a, b) => a + b) };
}

const told = ({ left, first }) => (steps ? `ran on ${left} of ${first} tokens` : `${left} of ${first} tokens left`);
const where = () => (state.position ? `${steps ? "" : "after "}${data.unit} ${depths[state.position - 1]}` : "before any merge");

class View {
  constructor(image, section) {
    Object.assign(this, { image, section, patch: null });
    const [frame] = section.getElementsByClassName("frame");
    const about = image.title ? `: ${image.title}` : "";
    this.over = make("canvas", { role: "presentation" });
    this.over.setAttribute("aria-hidden", "true");
    frame.append(this.over);
    this.canvas = make("canvas", { tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `What merged${about}. Arrow keys move from patch to patch.`);
    this.caption = make("figcaption");
    section.querySelector(".pictures").append(make("figure", {}, make("div", { className: "frame" }, this.canvas), this.caption));
    this.share = make("p", { className: "share" });
    this.legend = make("div", { className: "legend" });
    this.told = make("div", { className: "patch" });
    this.told.setAttribute("aria-live", "polite");
    section.querySelector(".told").append(this.share, this.legend, this.told);
    section.classList.add("drawn");
    for (const canvas of [this.over, this.canvas]) {
      canvas.addEventListener("pointermove", (event) => this.point(event));
      canvas.addEventListener("pointerdown", (event) => this.point(event));
      canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.choose(null));
    }
    this.canvas.addEventListener("keydown", (event) => this.move(event));
    this.canvas.addEventListener("blur", () => this.choose(null));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  point(event) {
    const { left, top, width, height } = event.currentTarget.getBoundingClientRect();
    const { rows, columns } = this.image;
    const column = Math.floor(((event.clientX - left) / width) * columns);
    const row = Math.floor(((event.clientY - top) / height) * rows);
    if (column >= 0 && row >= 0 && column < columns && row < rows) this.choose(row * columns + column);
  }

  move(event) {
    const { rows, columns } = this.image;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.choose(null);
    if (!step) return;
    event.preventDefault();
    if (this.patch === null) return this.choose(Math.floor(rows / 2) * columns + Math.floor(columns / 2));
    const column = Math.min(Math.max((this.patch % columns) + step[0], 0), columns - 1);
    const row = Math.min(Math.max(Math.floor(this.patch / columns) + step[1], 0), rows - 1);
    this.choose(row * columns + column);
  }

  choose(patch) {
    if (patch === this.patch) return;
    if (patch !== null) for (const view of views) if (view !== this) view.choose(null);
    this.patch = patch;
    this.draw();
  }

  draw() {
    const { image, patch } = this;
    const { groups, scored } = reached(image);
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    const scores = scored.scores[state.layer];
    const right = easel(this.canvas, image), left = easel(this.over, image);
    if (scores) drawScores(right, state.layer, scored, groups.length);
    else drawGroups(right, image, groups);
    if (patch !== null) for (const each of [left, right]) drawChosen(each, groups, patch, accent);
    this.tell(groups, scored, scores);
  }

  tell(groups, scored, scores) {
    const counts = countsOf([this.image]);
    const guarded = this.image.protected ? `, ${this.image.protected} protected` : "";
    this.share.textContent = `${told(counts)} (${Math.round(100 * counts.share)}%)${guarded}`;
    this.caption.textContent = scores ? `${LAYERS[state.layer][0]} on entering ${data.unit} ${scored.depth}` : where();
    this.legend.replaceChildren(...(scores ? legend(state.layer, scored) : []));
    this.legend.hidden = !scores;
    this.told.classList.toggle("alone", !scores);
    this.told.classList.toggle("found", this.patch !== null);
    if (this.patch === null) {
      this.told.replaceChildren(make("p", { textContent: "Point at a patch to see its group." }));
      return;
    }
    const size = groups.filter((group) => group === groups[this.patch]).length;
    const rows = Object.entries(SHORT).flatMap(([name, label]) => {
      if (!scored.scores[name]) return [];
      const score = scored.scores[name].at(this.patch);
      const text = Number.isNaN(score) ? "–" : number(score);
      return [make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: text }))];
    });
    this.told.replaceChildren(
      make("b", { textContent: size === 1 ? "1 patch, a token of its own" : `${size} patches, one token` }),
      make("dl", {}, ...rows),
      make("p", { textContent: this.history(groups, size) }),
    );
  }

  history(groups, size) {
    const { block, before } = reached(this.image);
    if (!block || steps || !block.merged) return "";
    const here = `${data.unit} ${block.depth}`;
    const entered = before.filter((group) => group === before[this.patch]).length;
    if (block.merged(this.patch)) return `Merged into another token in ${here}.`;
    if (size > entered) return `Received ${size - entered} more in ${here}.`;
    return size > 1 ? `Merged earlier, unchanged in ${here}.` : "Not merged so far.";
  }
}

function legend(layer, { depth, scores, merged }) {
  const { range: [low, high], ends: [least, most], some } = scores[layer];
  const ramp = make("div", { className: "ramp" });
  ramp.style.background = `linear-gradient(90deg, ${RAMPS[layer].join(", ")})`;
  const row = (...texts) => make("div", { className: "ends" }, ...texts.map((textContent) => make("span", { textContent })));
  const key = (className, text) => make("div", { className: "key" }, make("i", { className }), text);
  const highest = 2 ** OCTAVES;
  const beyond = (sign, end, shown) => (number(end) === number(shown) ? "" : sign) + number(shown);
  const found = {
    value: [row(`≤ 1/${highest}`, "average", `≥ ${highest}×`), `from ${number(least)} to ${number(most)} over all blocks`],
    redundancy: [row(beyond("≤ ", least, low), beyond("≥ ", most, high)), ""],
    degree: [row("stays", "merges first"), `from ${number(least)} to ${number(most)} in ${data.unit} ${depth}`],
  }[layer];
  const keys = [some && key("none", "may only receive"), merged && key("gone", `merged in ${data.unit} ${depth}`)];
  return [ramp, found[0], make("div", { className: "span", textContent: found[1] }), ...keys.filter(Boolean)];
}

function show() {
  const label = where();
  find("slider").value = state.position;
  find("slider").setAttribute("aria-valuetext", label);
  find("counts").replaceChildren(make("b", { textContent: label }), ` ${told(countsOf(views.map((view) => view.image)))}`);
  [...find("bars").children].forEach((bar, place) => bar.classList.toggle("now", place === state.position));
  find("meaning").textContent = LAYERS[state.layer][1];
  for (const view of views) view.draw();
}

function go(position) {
  state.position = Math.min(Math.max(position, 0), depths.length);
  show();
}

function play(on) {
  window.clearInterval(state.timer);
  state.timer = 0;
  find("play").setAttribute("aria-pressed", String(on));
  find("play").setAttribute("aria-label", on ? "Pause" : "Play");
  if (!on) return;
  if (state.position === depths.length) go(0);
  const tick = () => (go(state.position + 1), state.position === depths.length && play(false));
  state.timer = window.setInterval(tick, still.matches ? 1600 : depths.length > 16 ? 450 : 800);
}

function addControls() {
  const known = Object.keys(LAYERS).filter((name) => name === "groups" || data.images.some(({ blocks }) => name in blocks[0].scores));
  for (const name of known) {
    const choice = make("input", { type: "radio", name: "layer", value: name, checked: name === state.layer });
    choice.addEventListener("change", () => ((state.layer = name), show()));
    find("layers").append(make("label", {}, choice, LAYERS[name][0]));
  }
  find("layers").hidden = known.length === 1;
  for (let position = 0; position <= depths.length; position++) {
    state.position = position;
    const bar = make("i");
    bar.style.height = `${100 * countsOf(views.map((view) => view.image)).share}%`;
    find("bars").append(bar);
  }
  const slider = find("slider");
  slider.style.setProperty("--places", depths.length + 1);
  slider.max = depths.length;
  slider.addEventListener("input", () => (play(false), go(Number(slider.value))));
  find("play").addEventListener("click", () => play(!state.timer));
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && [document.body, find("play")].includes(event.target)) (play(false), go(state.position + step));
  });
  document.addEventListener("pointerdown", (event) => {
    if (event.target.tagName !== "CANVAS") for (const view of views) view.choose(null);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  find("controls").hidden = false;
}

const sections = [...document.getElementsByClassName("image")];
Promise.all(sections.map((section) => section.querySelector("img").decode())).then(() => {
  sections.forEach((section, place) => views.push(new View(unpackImage(data.images[place], section.querySelector("img")), section)));
  addControls();
  show();
});
