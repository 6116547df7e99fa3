// Search, sorting and filters. The pages can be read without; what needs this script is shown by it.
"use strict";
document.documentElement.classList.add("scripted");

const MOST = 200; // neurons listed on the overview
const search = document.getElementById("search");
const count = document.getElementById("count");
const blocks = document.getElementById("blocks");

function words(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}

function typed(handler) {
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(handler, 60);
  });
}

// The layer's page: cards in blocks, or, once sorted, all in one list.
function layerPage() {
  const sort = document.getElementById("sort");
  const filter = document.getElementById("filter");
  const cards = Array.from(document.querySelectorAll(".neuron"), (card) => ({
    element: card,
    home: card.parentElement,
    dead: card.classList.contains("dead"),
    label: card.querySelector(".concept").textContent.toLowerCase(),
    number: card.id.slice("neuron-".length),
  }));
  const sections = Array.from(blocks.children);
  const flat = document.createElement("ol");
  flat.className = "neurons";
  const competing = blocks.classList.contains("competing");

  function value(card) {
    const data = card.element.dataset[sort.value];
    return data === "" ? -Infinity : Number(data);
  }

  function arrange() {
    if (!sort.value) {
      cards.forEach((card) => card.home.append(card.element));
      blocks.replaceChildren(...sections);
    } else {
      const byConcept = (a, b) => a.dead - b.dead || a.label.localeCompare(b.label);
      const sorted = cards.slice().sort(sort.value === "concept" ? byConcept : (a, b) => value(b) - value(a));
      flat.replaceChildren(...sorted.map((card) => card.element));
      blocks.replaceChildren(flat);
    }
    blocks.classList.toggle("competing", competing && !sort.value);
  }

  function show() {
    const wanted = words(search.value);
    let shown = 0;
    for (const card of cards) {
      const fits = wanted.every((word) => card.label.includes(word) || card.number === word);
      const kept = !filter.value || (filter.value === "dead") === card.dead;
      card.element.hidden = !(fits && kept);
      shown += fits && kept;
    }
    for (const section of sections) section.hidden = !section.querySelector(".neuron:not([hidden])");
    count.textContent = shown === cards.length ? `${shown} neurons` : `${shown} of ${cards.length} neurons`;
  }

  // A link to a card opens it, whatever the search hides.
  function target() {
    const card = document.getElementById(location.hash.slice(1));
    if (!card || !card.classList.contains("neuron")) return;
    if (card.hidden) {
      search.value = filter.value = "";
      show();
    }
    const details = card.querySelector("details");
    if (details) details.open = true;
    card.scrollIntoView({ block: "center" });
  }

  typed(show);
  filter.addEventListener("change", show);
  sort.addEventListener("change", () => { arrange(); show(); });
  window.addEventListener("hashchange", target);
  target();
}

// The overview: every neuron of every layer whose label has the words, then those that have them among their runners-up.
function overview() {
  const found = document.getElementById("found");
  const neurons = window.atlas.neurons.map(([layer, neuron, label, others]) => ({
    layer, neuron, label, others,
  }));

  function item([one, other]) {
    const [name, file] = window.atlas.layers[one.layer];
    const entry = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${file}#neuron-${one.neuron}`;
    link.textContent = one.label;
    const where = document.createElement("span");
    where.className = "facts";
    where.textContent = `${name}, neuron ${one.neuron}${other ? `, then ${other}` : ""}`;
    entry.append(link, where);
    return entry;
  }

  function show() {
    const wanted = words(search.value);
    const fits = (text) => wanted.every((word) => text.toLowerCase().includes(word));
    const labels = wanted.length ? neurons.filter((one) => fits(one.label)) : [];
    const rest = wanted.length ? neurons.filter((one) => !fits(one.label)) : [];
    const others = rest.map((one) => [one, one.others.find(fits)]).filter(([, other]) => other);
    const matches = [...labels.map((one) => [one, ""]), ...others];
    found.replaceChildren(...matches.slice(0, MOST).map(item));
    found.hidden = !matches.length;
    const more = matches.length > MOST ? `, the first ${MOST} shown` : "";
    count.textContent = wanted.length ? `${matches.length} neurons${more}` : "";
  }

  typed(show);
  show();
}

if (blocks) layerPage();
else if (search) overview();

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && search && document.activeElement !== search) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && document.activeElement === search) {
    search.value = "";
    search.dispatchEvent(new Event("input"));
  }
});
