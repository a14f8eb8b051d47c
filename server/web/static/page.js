"use strict";
// Takes a fresh page every few seconds and replaces the parts that have changed. The page says
// all of it without this script, too.

const PERIOD_MS = 5000;
const trouble = document.getElementById("trouble");
const button = document.createElement("button");
let isPaused = false;

const isInUse = () => document.hidden || String(getSelection()) !== "";

async function refresh() {
  if (isPaused || isInUse()) return;
  try {
    const response = await fetch(location.pathname + location.search, { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (isPaused || isInUse()) return;
    document.querySelectorAll("[data-part]").forEach((part) => replace(part, fresh));
    trouble.textContent = "";
  } catch (error) {
    // Said once: a screen reader need not hear it again every five seconds.
    trouble.textContent ||= `Not refreshed since ${new Date().toLocaleTimeString()}: no answer.`;
  }
}

function replace(part, fresh) {
  const next = fresh.getElementById(part.id);
  if (next === null || next.isEqualNode(part)) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...part.querySelectorAll(".scroll")].map((box) => [box.id, box.scrollLeft]);
  part.replaceWith(document.importNode(next, true));
  for (const [id, left] of scrolled) {
    const box = document.getElementById(id);
    if (box !== null) box.scrollLeft = left;
  }
  if (focused !== "") document.getElementById(focused)?.focus({ preventScroll: true });
}

function showButton() {
  button.type = "button";
  button.textContent = "Pause refreshing";
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Go on refreshing" : "Pause refreshing";
    refresh();
  });
  document.getElementById("reload").replaceWith(button);
}

showButton();
setInterval(refresh, PERIOD_MS);
document.addEventListener("visibilitychange", refresh);
