// The 3-D view of a crystal, coloured by local voltage: spheres and cell edges on a canvas, drawn
// from back to front. Mouse, finger and keyboard turn and zoom it. No library, no WebGL.
"use strict";

(() => {
  // Covalent radii, angstrom, by group of elements: only the order of sizes matters here.
  const SMALL = new Set("H He B C N O F Ne Be".split(" "));
  const LARGE = new Set("K Rb Cs Fr Ca Sr Ba Ra La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Y Th U Pb Bi Tl".split(" "));
  const radius = (symbol) => (SMALL.has(symbol) ? 0.42 : LARGE.has(symbol) ? 0.85 : 0.62);

  const toCartesian = (lattice, f) => [0, 1, 2].map((k) => f[0] * lattice[0][k] + f[1] * lattice[1][k] + f[2] * lattice[2][k]);

  // Every atom of the cell, with its images on the faces, edges and corners that it lies on.
  function atomsOf(data) {
    const atoms = [];
    data.coords.forEach((coords, site) => {
      const choices = coords.map((x) => (x < 0.02 ? [x, x + 1] : x > 0.98 ? [x - 1, x] : [x]));
      for (const a of choices[0]) for (const b of choices[1]) for (const c of choices[2]) {
        atoms.push({ site, symbol: data.symbols[site], at: toCartesian(data.lattice, [a, b, c]) });
      }
    });
    return atoms;
  }

  // From every atom that is no anion to its nearest anions, in two halves of the atoms' colours.
  const ANIONS = new Set("O F S Se Te N Cl Br I".split(" "));
  const MOST_BONDED = 400;

  function bondsOf(atoms) {
    const bonds = [];
    const anions = atoms.filter((atom) => ANIONS.has(atom.symbol));
    if (atoms.length > MOST_BONDED) return bonds;
    for (const atom of atoms) {
      if (ANIONS.has(atom.symbol)) continue;
      const near = anions.map((other) => [Math.hypot(...other.at.map((x, k) => x - atom.at[k])), other]);
      const shortest = Math.min(...near.map(([distance]) => distance));
      for (const [distance, other] of near) if (distance < Math.min(1.4 * shortest, 3.2)) bonds.push([atom, other]);
    }
    return bonds;
  }

  function edgesOf(lattice) {
    const edges = [];
    for (let axis = 0; axis < 3; axis++) for (const b of [0, 1]) for (const c of [0, 1]) {
      const start = [0, 0, 0], end = [0, 0, 0];
      start[(axis + 1) % 3] = end[(axis + 1) % 3] = b;
      start[(axis + 2) % 3] = end[(axis + 2) % 3] = c;
      end[axis] = 1;
      edges.push([toCartesian(lattice, start), toCartesian(lattice, end)]);
    }
    return edges;
  }

  function multiply(a, b) {
    return a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
  }

  function turned(x, y) {
    const [cx, sx, cy, sy] = [Math.cos(x), Math.sin(x), Math.cos(y), Math.sin(y)];
    return multiply([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]);
  }

  function shade(color, factor) {
    const channel = (i) => Math.min(255, Math.round(parseInt(color.slice(i, i + 2), 16) * factor));
    return `rgb(${channel(1)},${channel(3)},${channel(5)})`;
  }

  function mount(box) {
    const data = JSON.parse(box.querySelector("script").textContent);
    const ions = Object.keys(data.ions);
    if (!ions.length) return;
    const atoms = atomsOf(data), edges = edgesOf(data.lattice), bonds = bondsOf(atoms);
    const middle = toCartesian(data.lattice, [0.5, 0.5, 0.5]);
    const reach = Math.max(...atoms.map((a) => Math.hypot(...a.at.map((x, k) => x - middle[k])))) + 0.9;
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    const hint = document.createElement("div");
    hint.className = "hint";
    hint.hidden = true;
    const choice = document.createElement("div");
    choice.className = "ions";
    const ramp = document.createElement("div");
    ramp.className = "ramp";
    box.append(choice, canvas, ramp, hint);

    let ion = ions[0], rotation = turned(-1.25, 0.5), zoom = 1, drawn = [];

    function draw() {
      const scale = window.devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (!width) return;
      canvas.width = width * scale;
      canvas.height = height * scale;
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, scale, 0, 0);
      const size = (zoom * Math.min(width, height) * 0.47) / reach;
      const project = (point) => {
        const p = point.map((x, k) => x - middle[k]);
        const [x, y, z] = rotation.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
        const near = 1 / (1 - z / (6 * reach));
        return { x: width / 2 + x * size * near, y: height / 2 - y * size * near, z, near };
      };
      const line = getComputedStyle(box).getPropertyValue("--soft") || "#888";
      const paper = getComputedStyle(box).getPropertyValue("--ink") || "#000";
      const items = edges.flatMap(([from, to]) => {
        // In pieces, so that an edge can pass behind one atom and before another.
        const steps = 8, pieces = [];
        for (let i = 0; i < steps; i++) {
          const part = (t) => from.map((x, k) => x + (to[k] - x) * t);
          const [a, b] = [project(part(i / steps)), project(part((i + 1) / steps))];
          pieces.push({ z: (a.z + b.z) / 2, a, b, stroke: line, width: 1, alpha: 0.6 });
        }
        return pieces;
      });
      const { colors } = data.ions[ion];
      for (const [from, to] of bonds) {
        const half = from.at.map((x, k) => (x + to.at[k]) / 2);
        for (const end of [from, to]) {
          const color = colors[end.site];
          const [a, b] = [project(end.at), project(half)];
          // Behind the ball that it comes from, whichever way it points.
          if (color) items.push({ z: Math.min(a.z, b.z) - 0.01, a, b, stroke: shade(color, 0.85), width: Math.max(0.11 * size, 1.5), alpha: 1 });
        }
      }
      drawn = atoms.map((atom) => {
        const p = project(atom.at);
        return { ...p, atom, r: radius(atom.symbol) * size * p.near, color: colors[atom.site] };
      });
      for (const item of [...items, ...drawn].sort((a, b) => a.z - b.z)) {
        if (item.a) {
          context.strokeStyle = item.stroke;
          context.globalAlpha = item.alpha;
          context.lineWidth = item.width;
          context.beginPath();
          context.moveTo(item.a.x, item.a.y);
          context.lineTo(item.b.x, item.b.y);
          context.stroke();
          context.globalAlpha = 1;
          continue;
        }
        ball(context, item, line, paper);
      }
    }

    function ball(context, item, line, ink) {
      const { x, y, r, color } = item;
      context.beginPath();
      context.arc(x, y, r, 0, 2 * Math.PI);
      if (!color) {
        // The working ion's place: taken out of the host.
        context.setLineDash([3, 3]);
        context.lineWidth = 1;
        context.strokeStyle = line;
        context.stroke();
        context.setLineDash([]);
      } else {
        const gradient = context.createRadialGradient(x - r * 0.35, y - r * 0.4, r * 0.1, x, y, r);
        gradient.addColorStop(0, shade(color, 1.35));
        gradient.addColorStop(0.6, color);
        gradient.addColorStop(1, shade(color, 0.6));
        context.fillStyle = gradient;
        context.fill();
      }
      if (r < 9) return;
      context.font = `600 ${Math.min(r * 0.8, 15)}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillStyle = color ? contrast(color) : ink;
      context.fillText(item.atom.symbol, x, y);
    }

    function contrast(color) {
      const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
      return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
    }

    function legend() {
      const { low, high, ramp: colors, voltages } = data.ions[ion];
      ramp.replaceChildren();
      const bar = document.createElement("canvas");
      bar.width = 150;
      bar.height = 10;
      const context = bar.getContext("2d");
      const gradient = context.createLinearGradient(0, 0, 150, 0);
      colors.forEach((color, i) => gradient.addColorStop(i / (colors.length - 1), color));
      context.fillStyle = gradient;
      context.fillRect(0, 0, 150, 10);
      ramp.append(`${low.toFixed(1)} V`, bar, `${high.toFixed(1)} V`);
      const known = voltages.filter((v) => v !== null).length;
      canvas.setAttribute("aria-label", `Structure with the local voltages of ${known} sites for ${ion}; the table below lists them`);
    }

    function show(name) {
      ion = name;
      for (const button of choice.children) button.setAttribute("aria-pressed", String(button.value === ion));
      const scope = box.closest("section");
      for (const sites of scope ? scope.querySelectorAll("details.sites") : []) sites.open = sites.dataset.ion === ion;
      legend();
      draw();
    }

    for (const name of ions) {
      const button = document.createElement("button");
      button.type = "button";
      button.value = button.textContent = name;
      button.addEventListener("click", () => show(name));
      choice.append(button);
    }

    const fingers = new Map();
    let spread = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      spread = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return point(event);
      fingers.set(event.pointerId, event);
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        const apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread) zoomBy(apart / spread);
        spread = apart;
        return;
      }
      rotate((event.clientY - before.clientY) / 120, (event.clientX - before.clientX) / 120);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => { hint.hidden = true; });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 500));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 0.15;
      const actions = {
        ArrowLeft: () => rotate(0, -step), ArrowRight: () => rotate(0, step),
        ArrowUp: () => rotate(-step, 0), ArrowDown: () => rotate(step, 0),
        "+": () => zoomBy(1.15), "=": () => zoomBy(1.15), "-": () => zoomBy(1 / 1.15),
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });

    function rotate(x, y) { rotation = multiply(turned(x, y), rotation); draw(); }
    function zoomBy(factor) { zoom = Math.min(Math.max(zoom * factor, 0.4), 6); draw(); }

    function point(event) {
      const edge = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - edge.left, event.clientY - edge.top];
      const found = drawn.filter((d) => Math.hypot(d.x - x, d.y - y) <= d.r).sort((a, b) => b.z - a.z)[0];
      hint.hidden = !found;
      if (!found) return;
      const voltage = data.ions[ion].voltages[found.atom.site];
      hint.textContent = `${found.atom.symbol}, site ${found.atom.site + 1}: ${voltage === null ? "taken out" : `${voltage.toFixed(2)} V`}`;
    }

    new ResizeObserver(draw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    show(ion);
  }

  const start = () => document.querySelectorAll("[data-viewer]").forEach(mount);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
