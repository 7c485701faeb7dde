"use strict";

// Has the middle of the page made anew when something happens, and from time to time.
const main = document.getElementById("main");
const live = document.getElementById("live");
const ask = document.getElementById("ask");
const said = document.getElementById("said");
const SETTLE = 120;
const BEAT = main.querySelectorAll("details.origin").length > 200 ? 10000 : 2000;

let busy = false;
let again = false;
let timer = 0;

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch("/fragment", { cache: "no-store" });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.text());
    tell(true);
  } catch {
    tell(false);
  } finally {
    busy = false;
    if (again) {
      again = false;
      soon();
    }
  }
}

// What is open stays open, and what has the focus keeps it.
function show(text) {
  const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.id));
  const focused = main.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && (focused.id || focused.parentElement.id);
  const isSummary = focused && focused.tagName === "SUMMARY";
  const made = new DOMParser().parseFromString(text, "text/html");
  main.replaceChildren(...made.body.childNodes);
  for (const one of main.querySelectorAll("details")) one.open = open.has(one.id);
  for (const time of main.querySelectorAll("time")) localize(time);
  if (place) {
    const found = document.getElementById(place);
    const target = found && isSummary ? found.querySelector("summary") : found;
    if (target) target.focus({ preventScroll: true });
  }
}

function localize(time) {
  const moment = new Date(time.dateTime);
  if (!Number.isNaN(moment.getTime())) {
    time.title = time.dateTime;
    time.textContent = moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
  }
}

function tell(isLive) {
  live.textContent = isLive ? "live" : "the gateway does not answer; what is shown is old";
  live.classList.toggle("wrong", !isLive);
  main.classList.toggle("old", !isLive);
}

function soon() {
  if (!timer) {
    timer = setTimeout(() => {
      timer = 0;
      refresh();
    }, SETTLE);
  }
}

const events = new EventSource("/v1/events");
events.onmessage = soon;
events.addEventListener("missed", soon);
events.onerror = soon;
setInterval(() => {
  if (!document.hidden) soon();
}, BEAT);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) soon();
});
for (const time of main.querySelectorAll("time")) localize(time);

// Nothing is done before it was asked for twice.
main.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-call]");
  if (!button) return;
  document.getElementById("ask-question").textContent = button.dataset.question;
  document.getElementById("ask-yes").textContent = button.textContent;
  const call = button.dataset.call;
  ask.returnValue = "no";
  ask.onclose = () => {
    if (ask.returnValue === "yes") act(call);
  };
  ask.showModal();
});

async function act(call) {
  try {
    const answer = await fetch(call, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: "{}",
    });
    const outcome = await answer.json();
    said.textContent = outcome.messages.join("; ");
    said.classList.toggle("wrong", !outcome.done);
  } catch {
    said.textContent = "the gateway does not answer";
    said.classList.add("wrong");
  }
  said.classList.add("shown");
  setTimeout(() => said.classList.remove("shown"), 6000);
  soon();
}
