// The gallery of `granvit data inspect`: searches, pages and draws ITEMS (items.js). All that comes from the data
// is put into the page as text, never as markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MANY = 20; // boxes, from which on their lines are thin
const query = document.getElementById("query");
const show = document.getElementById("show");
const cards = document.getElementById("cards");

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

// What a search looks through, made once for each image.
function words(item) {
  const regions = (item.regions || []).map((region) => region[4]);
  const turns = (item.turns || []).flat();
  return [item.key, item.path, item.caption, ...regions, ...turns].join("\n").toLowerCase();
}
const TEXTS = ITEMS.map(words);

function shown(item) {
  if (show.value === "copies") return item.copies !== undefined;
  if (show.value === "lost") return item.lost !== undefined;
  return show.value === "" || item.state === show.value;
}

// The images of the search, copies of each other side by side where they are asked for.
function found() {
  const asked = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const numbers = ITEMS.map((_, at) => at);
  const left = numbers.filter((at) => shown(ITEMS[at]) && asked.every((word) => TEXTS[at].includes(word)));
  if (show.value === "copies") left.sort((a, b) => ITEMS[a].copies - ITEMS[b].copies || a - b);
  return left;
}

function picture(item, light) {
  if (!item.picture) return element("p", "missing", item.problem || "no picture");
  const [path, width, height] = item.picture;
  const frame = element("a", item.thin ? "frame thin" : "frame");
  frame.href = path;
  const image = element("img");
  Object.assign(image, { src: path, width, height, alt: "", loading: "lazy" });
  const boxes = document.createElementNS(SVG, "svg");
  boxes.setAttribute("viewBox", `0 0 ${item.size[0]} ${item.size[1]}`);
  boxes.setAttribute("preserveAspectRatio", "none");
  if ((item.regions || []).length > MANY) boxes.classList.add("many");
  if (item.state !== "kept") boxes.classList.add("gone");
  (item.regions || []).forEach(([left, top, right, bottom, text, taken], at) => {
    const box = document.createElementNS(SVG, "rect");
    const sides = { x: left, y: top, width: right - left, height: bottom - top };
    for (const [name, value] of Object.entries(sides)) box.setAttribute(name, Math.max(value, 0));
    if (taken) box.classList.add("taken");
    const title = document.createElementNS(SVG, "title");
    title.textContent = taken ? `${text} (${taken})` : text;
    box.append(title);
    light(box, at);
    boxes.append(box);
  });
  frame.append(image, boxes);
  return frame;
}

// A box and its line light up together.
function together() {
  const pairs = {};
  return (part, at) => {
    (pairs[at] ||= []).push(part);
    const turn = (on) => () => pairs[at].forEach((one) => one.classList.toggle("on", on));
    part.addEventListener("mouseenter", turn(true));
    part.addEventListener("mouseleave", turn(false));
  };
}

function regions(item, light) {
  const list = element("ol", "regions");
  list.tabIndex = 0;
  list.setAttribute("aria-label", `${item.regions.length} regions`);
  item.regions.forEach(([, , , , text, taken], at) => {
    const line = element("li", taken ? "taken" : "", (text || "(no text)") + (taken ? ` · ${taken}` : ""));
    light(line, at);
    list.append(line);
  });
  return list;
}

function card(item) {
  const made = element("li", "card");
  const light = together();
  made.append(picture(item, light));
  const size = item.size ? ` · ${item.size[0]}\u00a0×\u00a0${item.size[1]}` : "";
  made.append(element("p", "note", (item.path || item.key) + size));
  const kept = item.state === "kept";
  const state = kept ? "kept" : item.problem ? `cannot be used: ${item.problem}` : `dropped: ${item.state}`;
  made.append(element("p", kept ? "state right" : "state wrong", state));
  if (item.copies !== undefined) made.append(element("p", "note", `duplicates, group ${item.copies}`));
  if (item.lost) made.append(element("p", "note", `left out: ${item.lost.join(", ")}`));
  if (item.caption) made.append(element("p", "", item.caption));
  if (item.regions) made.append(regions(item, light));
  for (const [question, answer] of item.turns || []) {
    made.append(element("p", "question", question), element("p", "", answer));
  }
  return made;
}

function pager(place, page, last) {
  place.replaceChildren();
  if (last < 2) return;
  const near = [1, page - 2, page - 1, page, page + 1, page + 2, last];
  const numbers = [...new Set(near)].filter((number) => number >= 1 && number <= last);
  numbers.forEach((number, at) => {
    if (at && number > numbers[at - 1] + 1) place.append(element("span", "", "…"));
    const button = element("button", "", String(number));
    button.setAttribute("aria-label", `Page ${number}`);
    if (number === page) button.setAttribute("aria-current", "page");
    button.addEventListener("click", () => draw(number, true));
    place.append(button);
  });
}

function draw(page, remember) {
  const numbers = found();
  const last = Math.max(1, Math.ceil(numbers.length / PAGE));
  page = Math.min(Math.max(page, 1), last);
  const part = numbers.slice((page - 1) * PAGE, page * PAGE);
  cards.replaceChildren(...part.map((at) => card(ITEMS[at])));
  const range = part.length ? `, ${(page - 1) * PAGE + 1} to ${(page - 1) * PAGE + part.length}` : "";
  document.getElementById("count").textContent = `${numbers.length} of ${ITEMS.length} images${range}`;
  document.querySelectorAll(".pager").forEach((place) => pager(place, page, last));
  if (remember) {
    const state = new URLSearchParams({ show: show.value, q: query.value, page });
    history.replaceState(null, "", `#${state}`);
  }
}

// What the address says: gallery.html#show=image_side&q=cat&page=2
function read() {
  const state = new URLSearchParams(location.hash.slice(1));
  show.value = state.get("show") || "";
  if (show.selectedIndex < 0) show.value = "";
  query.value = state.get("q") || "";
  draw(Number(state.get("page")) || 1, false);
}

document.querySelector(".search").addEventListener("submit", (event) => event.preventDefault());
query.addEventListener("input", () => draw(1, true));
show.addEventListener("change", () => draw(1, true));
window.addEventListener("hashchange", read);
read();
