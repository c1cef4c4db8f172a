// Measurements of a page, for test_in_browser.py. Each is called with page.evaluate.

window.measure = {
  // Elements of the text that stick out of the window and cannot be scrolled to inside a box of their own.
  sticksOut() {
    const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const wide = [...document.querySelectorAll(".md-content *")].filter(
      (e) => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility() && !scrolls(e.parentElement),
    );
    const found = wide.map((e) => `${e.tagName.toLowerCase()} ${e.textContent.trim().slice(0, 40)}`);
    const excess = document.documentElement.scrollWidth - innerWidth;
    return excess > 0 ? [...found, `the page, by ${excess} px`] : found;
  },

  // All pictures loaded, even those that are far below.
  async loadPictures() {
    const pictures = [...document.images];
    for (const picture of pictures) picture.loading = "eager";
    await Promise.all(pictures.map((picture) => picture.decode()));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return pictures.length;
  },

  // Text whose contrast to its ground is below `least`, an example of each kind.
  faint(least) {
    const found = {};
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.textContent.trim();
      if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
      if (element.closest("script, style, noscript, .md-search, .md-skip, .headerlink, [aria-hidden]")) continue;
      const contrast = contrastOf(element);
      const kind = [element.tagName.toLowerCase(), ...element.classList].join(".");
      if (contrast < least) found[kind] = `${kind} ${text.slice(0, 40)}: ${contrast.toFixed(2)}`;
    }
    return Object.values(found);
  },

  shift: 0, // the sum of all layout shifts
};

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.measure.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });

function rgba(text) {
  const numbers = text.match(/[\d.]+/g).map(Number);
  if (!text.startsWith("rgb")) throw new Error(`cannot read the colour ${text}`);
  return [numbers[0], numbers[1], numbers[2], numbers[3] ?? 1];
}

function over(above, below) {
  return [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
}

function groundOf(element) {
  if (!element) return [255, 255, 255, 1];
  const colour = rgba(getComputedStyle(element).backgroundColor);
  return colour[3] === 1 ? colour : over(colour, groundOf(element.parentElement));
}

function luminance(colour) {
  const [r, g, b] = colour.slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrastOf(element) {
  const ground = groundOf(element);
  const colour = rgba(getComputedStyle(element).color);
  for (let e = element; e; e = e.parentElement) colour[3] *= Number(getComputedStyle(e).opacity);
  const [light, dark] = [luminance(over(colour, ground)), luminance(ground)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}
