"use strict";
// Without this file everything is there but searching, sorting and filtering.
document.documentElement.classList.add("script");

const byId = (id) => document.getElementById(id);
const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function layerPage(cards) {
  const all = [...cards.querySelectorAll(".card")];
  const words = all.map((card) => card.dataset.q + "\n#" + card.dataset.n);
  const blocks = [...cards.children];
  const grouped = blocks[0].matches(".block");
  const layout = cards.className;
  const [search, sort, filter] = ["search", "sort", "filter"].map(byId);

  function show() {
    const text = search.value.trim().toLowerCase();
    let count = 0;
    all.forEach((card, place) => {
      const fits = filter.value === "all" || card.classList.contains(filter.value);
      card.hidden = !(fits && words[place].includes(text));
      count += !card.hidden;
    });
    if (grouped && sort.value === "n") {
      blocks.forEach((block) => { block.hidden = !block.querySelector(".card:not([hidden])"); });
    }
    byId("count").textContent = several(count, "neuron");
  }

  function arrange() {
    const by = sort.value;
    if (grouped && by === "n") {
      const size = all.length / blocks.length;
      cards.className = layout;
      blocks.forEach((block, b) => block.querySelector(".row").append(...all.slice(b * size, (b + 1) * size)));
      cards.replaceChildren(...blocks);
    } else {
      const value = (card) => (by === "n" ? -card.dataset.n : Number(card.dataset[by]));
      const word = (card) => (card.matches(".named") ? "" : "\uffff") + (card.dataset.q || "\uffff"); // labels first
      const order = by === "q"
        ? (a, b) => word(a).localeCompare(word(b))
        : (a, b) => value(b) - value(a);
      cards.className = "flat";
      cards.replaceChildren(...[...all].sort((a, b) => order(a, b) || a.dataset.n - b.dataset.n));
    }
    show();
  }

  function openLinked() {
    const card = all.find((one) => "#" + one.id === location.hash);
    if (!card) return;
    if (card.hidden) { search.value = ""; filter.value = "all"; show(); }
    card.open = true;
    card.scrollIntoView({ block: "start" });
    card.querySelector("summary").focus({ preventScroll: true });
  }

  search.addEventListener("input", show);
  filter.addEventListener("change", show);
  sort.addEventListener("change", arrange);
  addEventListener("hashchange", openLinked);
  if (search.value || filter.value !== "all" || sort.value !== "n") arrange(); // what the browser kept of a former visit
  openLinked();
}

function overview(input) {
  const LIMIT = 50;
  const words = CONCEPTS.map(([concept]) => concept.toLowerCase());
  function entry([concept, page, layer, neuron, r, fits]) {
    const item = document.createElement("li"), link = document.createElement("a"), place = document.createElement("span");
    link.href = `${page}#neuron-${neuron}`;
    link.textContent = fits ? concept : `no word fits (closest: ${concept})`;
    link.className = fits ? "" : "nofit";
    place.textContent = `${layer} #${neuron}` + (r === null ? "" : `, r ${r.toFixed(2)}`);
    place.className = "soft number";
    item.append(link, place);
    return item;
  }
  function show() {
    const text = input.value.trim().toLowerCase();
    const found = text ? CONCEPTS.filter((_, place) => words[place].includes(text)) : [];
    const rank = ([concept, , , , , fits]) => (fits ? 0 : 2) + (concept.toLowerCase().startsWith(text) ? 0 : 1);
    found.sort((a, b) => rank(a) - rank(b)); // words that fit before others, first words before further ones
    const more = found.length > LIMIT ? `, the first ${LIMIT} of them` : "";
    byId("found").textContent = text ? several(found.length, "neuron") + more : "";
    byId("results").replaceChildren(...found.slice(0, LIMIT).map(entry));
  }
  input.addEventListener("input", show);
  show();
}

document.addEventListener("keydown", (event) => {
  const input = byId("search") || byId("everywhere");
  if (event.key === "/" && input && !event.target.matches("input, select")) { event.preventDefault(); input.focus(); }
  if (event.key === "Escape") document.querySelectorAll(".menu[open]").forEach((menu) => { menu.open = false; });
});
document.addEventListener("click", (event) => {
  document.querySelectorAll(".menu[open]").forEach((menu) => { menu.open = menu.contains(event.target); });
});
if (byId("cards") && byId("cards").children.length) layerPage(byId("cards"));
if (byId("everywhere")) overview(byId("everywhere"));
