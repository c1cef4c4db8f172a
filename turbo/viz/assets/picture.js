// What was packed, and how it is drawn. No DOM but the canvases given.

const NONE = 65535, HIGHEST = 65534, LOWEST = 65533, FINEST = 65532; // codes of scores, as in turbo/viz/packing.py
// matplotlib's magma and viridis at 13 places: dark to light, readable without telling colours apart.
const MAGMA = "#000004 #100b2d #2c115f #51127c #721f81 #932b80 #b73779 #d8456c #f1605d #fc8961 #feb078 #fed799 #fcfdbf".split(" ");
const VIRIDIS = "#440154 #481f70 #443983 #3b528b #31688e #287c8e #21918c #20a486 #35b779 #5ec962 #90d743 #c8e020 #fde725".split(" ");
const RAMPS = { value: MAGMA, redundancy: VIRIDIS, degree: VIRIDIS };
const OCTAVES = 4; // as in turbo/viz/heat.py
const OUTLIERS = 0.01; // share of the scores at either end

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function words(text) {
  const view = new DataView(bytes(text).buffer);
  return Uint16Array.from({ length: view.byteLength / 2 }, (_, place) => view.getUint16(2 * place, true));
}

function unpackScores({ low, high, data }) {
  const codes = words(data);
  const at = (patch) => {
    const code = codes[patch];
    if (code === NONE) return NaN;
    if (code >= LOWEST) return code === HIGHEST ? Infinity : -Infinity;
    return low + (high - low) * (code / FINEST);
  };
  const known = Array.from(codes, (_, patch) => at(patch)).filter((score) => !Number.isNaN(score));
  return { at, known, some: known.length < codes.length };
}

/** The lowest and highest of some scores, and where colours begin and end: outliers do not stretch them. */
function span(scores) {
  const known = scores.flatMap(({ known }) => known).sort((a, b) => a - b);
  const finite = known.filter(Number.isFinite), skipped = Math.floor(OUTLIERS * (finite.length - 1));
  return { ends: [known[0] ?? NaN, known.at(-1) ?? NaN], range: [finite[skipped] ?? 0, finite.at(-1 - skipped) ?? 0] };
}

function unpackBlock(block) {
  const groups = words(block.groups);
  const merged = block.merged && bytes(block.merged);
  const scores = {};
  for (const [name, packed] of Object.entries(block.scores)) scores[name] = unpackScores(packed);
  return { ...block, groups, scores, merged: merged && ((patch) => Boolean((merged[patch >> 3] >> (7 - (patch & 7))) & 1)) };
}

/** One image: its grid, its blocks, and the sum of the colours of each patch. */
function unpackImage(packed, picture) {
  const { rows, columns } = packed;
  const canvas = document.createElement("canvas");
  const width = (canvas.width = picture.naturalWidth), height = (canvas.height = picture.naturalHeight);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  const pixels = pen.getImageData(0, 0, width, height).data;
  const sums = new Float64Array(rows * columns * 4); // red, green, blue, pixels
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const patch = Math.floor((y * rows) / height) * columns + Math.floor((x * columns) / width);
      for (let part = 0; part < 3; part++) sums[4 * patch + part] += pixels[4 * (y * width + x) + part];
      sums[4 * patch + 3]++;
    }
  }
  const alone = Uint16Array.from({ length: rows * columns }, (_, patch) => patch);
  const blocks = packed.blocks.map(unpackBlock);
  for (const { scores } of blocks) {
    for (const layer of Object.keys(scores)) {
      // A strategy's priorities may change their scale from block to block.
      Object.assign(scores[layer], span(layer === "degree" ? [scores[layer]] : blocks.map((block) => block.scores[layer])));
    }
  }
  return { ...packed, sums, alone, ratio: height / width, blocks };
}

const count = (groups) => groups.reduce((sizes, group) => ((sizes[group] = (sizes[group] || 0) + 1), sizes), []);

function meanColours(image, groups) {
  const totals = [];
  groups.forEach((group, patch) => {
    const total = (totals[group] ||= [0, 0, 0, 0]);
    for (let part = 0; part < 4; part++) total[part] += image.sums[4 * patch + part];
  });
  return totals.map(([red, green, blue, pixels]) => `rgb(${[red, green, blue].map((sum) => Math.round(sum / pixels)).join(" ")})`);
}

function rampColour(ramp, share) {
  const along = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const place = Math.min(Math.floor(along), ramp.length - 2);
  const [from, to] = [ramp[place], ramp[place + 1]].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return `rgb(${from.map((part, at) => Math.round(part + (to[at] - part) * (along - place))).join(" ")})`;
}

/** Sets a canvas to the device's own pixels; returns how to draw patches and the lines between them on it. */
function easel(canvas, image) {
  const density = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * density));
  const height = Math.max(1, Math.round(canvas.clientWidth * image.ratio * density));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const { rows, columns } = image;
  const across = (column) => Math.round((column * width) / columns);
  const down = (row) => Math.round((row * height) / rows);
  const fill = (patch, colour) => {
    const row = Math.floor(patch / columns), column = patch % columns;
    pen.fillStyle = colour;
    pen.fillRect(across(column), down(row), across(column + 1) - across(column), down(row + 1) - down(row));
  };
  const dot = (patch) => {
    const row = Math.floor(patch / columns), column = patch % columns, wide = width / columns, high = height / rows;
    pen.beginPath();
    pen.arc((column + 0.5) * wide, (row + 0.5) * high, Math.max(density, Math.min(wide, high) / 8), 0, 2 * Math.PI);
    pen.fillStyle = "#ffffff";
    pen.strokeStyle = "rgb(0 0 0 / 0.7)";
    pen.lineWidth = density;
    pen.stroke();
    pen.fill();
  };
  /** A line wherever `meets(one, other)` of two neighbouring patches holds; null stands for outside. */
  const lines = (meets, colour, thick) => {
    const before = Math.floor(thick / 2);
    pen.fillStyle = colour;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const patch = row * columns + column;
        const left = across(column), top = down(row), right = across(column + 1), bottom = down(row + 1);
        if (meets(column ? patch - 1 : null, patch)) pen.fillRect(left - before, top - before, thick, bottom - top + thick);
        if (meets(row ? patch - columns : null, patch)) pen.fillRect(left - before, top - before, right - left + thick, thick);
        if (column === columns - 1 && meets(patch, null)) pen.fillRect(right - thick, top - before, thick, bottom - top + thick);
        if (row === rows - 1 && meets(patch, null)) pen.fillRect(left - before, bottom - thick, right - left + thick, thick);
      }
    }
  };
  return { pen, fill, dot, lines, density, side: width / columns };
}

function drawGroups({ fill, lines, density, side }, image, groups) {
  const colours = meanColours(image, groups), sizes = count(groups);
  groups.forEach((group, patch) => fill(patch, colours[group]));
  const apart = (one, other) => one !== null && other !== null && groups[one] !== groups[other];
  const outlined = (one, other) => apart(one, other) && (sizes[groups[one]] > 1 || sizes[groups[other]] > 1);
  const thin = Math.max(1, Math.round(density * Math.min(1.5, side / density / 12)));
  if (side > 8 * density) lines(outlined, "rgb(0 0 0 / 0.4)", thin + 2 * Math.ceil(density / 2));
  lines(outlined, `rgb(255 255 255 / ${Math.min(0.92, Math.max(0.5, side / density / 14))})`, thin);
}

/** A score's place on its ramp, from 0 to 1: octaves around the average, a range, or the order within the block. */
function placing(layer, scores) {
  if (layer === "value") return (score) => 0.5 + Math.log2(score) / (2 * OCTAVES);
  const [low, high] = scores.range;
  if (layer === "redundancy") return (score) => (high > low ? (score - low) / (high - low) : 0.5);
  const levels = [...new Set(scores.known)].sort((a, b) => a - b);
  const order = new Map(levels.map((score, place) => [score, place / Math.max(1, levels.length - 1)]));
  return (score) => order.get(score);
}

function drawScores({ pen, fill, dot }, layer, block, patches) {
  const scores = block.scores[layer], place = placing(layer, scores), hatched = hatch(pen);
  for (let patch = 0; patch < patches; patch++) {
    const score = scores.at(patch);
    fill(patch, Number.isNaN(score) ? hatched : rampColour(RAMPS[layer], place(score)));
    if (block.merged?.(patch)) dot(patch);
  }
}

function hatch(pen) {
  const tile = document.createElement("canvas");
  const side = (tile.width = tile.height = 6 * Math.max(1, Math.round(window.devicePixelRatio || 1)));
  const ink = tile.getContext("2d");
  ink.fillStyle = "#c9ced3";
  ink.fillRect(0, 0, side, side);
  ink.strokeStyle = "#8a929a";
  ink.lineWidth = side / 5;
  ink.beginPath();
  for (const shift of [-side, 0, side]) {
    ink.moveTo(shift - side / 2, side * 1.5);
    ink.lineTo(shift + side * 1.5, -side / 2);
  }
  ink.stroke();
  return pen.createPattern(tile, "repeat");
}

function drawChosen({ fill, lines, density }, groups, patch, accent) {
  const own = (other) => other !== null && groups[other] === groups[patch];
  groups.forEach((_, other) => own(other) || fill(other, "rgb(10 12 16 / 0.55)"));
  lines((one, other) => own(one) !== own(other), accent, Math.round(2.5 * density));
}
