"use strict";
// Filters, kept in the address (#paper=own&status=proved), so that a filtered list can be linked to.
const form = document.querySelector("form.filter");
if (form) {
  const items = [...document.querySelectorAll("[data-item]")];
  const groups = [...document.querySelectorAll("[data-group]")];
  const count = form.querySelector("output");
  const show = () => {
    const wanted = [...form.elements].filter((field) => field.name && field.value.trim());
    const fits = (item) => wanted.every((field) => field.name === "words"
      ? field.value.toLowerCase().trim().split(/\s+/).every((word) => item.dataset.words.includes(word))
      : item.dataset[field.name].split(" ").includes(field.value));
    items.forEach((item) => { item.hidden = !fits(item); });
    groups.forEach((group) => { group.hidden = !group.querySelector("[data-item]:not([hidden])"); });
    const shown = items.filter((item) => !item.hidden).length;
    count.value = shown === items.length ? `all ${shown} shown` : `${shown} of ${items.length} shown`;
    return wanted;
  };
  const changed = () => {
    const chosen = new URLSearchParams(show().map((field) => [field.name, field.value.trim()]));
    history.replaceState(null, "", `#${chosen}`);
  };
  const read = () => {
    const given = location.hash.slice(1);
    const chosen = new URLSearchParams(given.includes("=") ? given : "");
    [...form.elements].filter((field) => field.name).forEach((field) => {
      field.value = chosen.get(field.name) ?? "";
      if (field.value !== (chosen.get(field.name) ?? "")) field.value = "";  // no such option
    });
    show();
  };
  form.hidden = false;
  ["input", "change"].forEach((kind) => form.addEventListener(kind, changed));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(changed));
  addEventListener("hashchange", read);
  read();
}
// What scrolls inside itself can be scrolled with the keyboard.
const scrollers = [...document.querySelectorAll(".scroll, .m, pre, p, dd")];
const reachable = () => scrollers.forEach((box) => {
  if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === "auto") box.tabIndex = 0;
  else box.removeAttribute("tabindex");
});
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);
reachable();
// On paper everything is open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => { box.open = true; }));
