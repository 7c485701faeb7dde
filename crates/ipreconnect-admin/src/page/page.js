"use strict";

// Has the middle of the page made anew when something happens, and from time to time. The token is kept for this
// tab alone, and shown in a header: a cookie would be sent to every other port of this host, too.
const TOKEN = "ipreconnect token";
const SETTLE = 120;
const PATIENCE = 10000;
const PRESS = 2000;
const main = document.getElementById("main");
const live = document.getElementById("live");
const login = document.getElementById("login");
const ask = document.getElementById("ask");
const said = document.getElementById("said");

let busy = false;
let pressed = 0;
let again = false;
let timer = 0;
let watching = null;

function shown() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: "Bearer " + token } : {};
}

async function refresh() {
  // What is being clicked is not taken away, for a while.
  if (Date.now() - pressed < PRESS) {
    soon();
    return;
  }
  if (busy) {
    again = true;
    return;
  }
  if ("guarded" in main.dataset && !sessionStorage.getItem(TOKEN)) {
    askForToken();
    return;
  }
  busy = true;
  try {
    const answer = await fetch("/fragment", {
      cache: "no-store",
      headers: shown(),
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.status === 401) {
      askForToken();
    } else if (answer.ok) {
      show(await answer.text());
      tell(true);
      watch();
    } else {
      tell(false);
    }
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

function askForToken() {
  document.getElementById("wrong").hidden = !sessionStorage.getItem(TOKEN);
  sessionStorage.removeItem(TOKEN);
  main.hidden = true;
  live.textContent = "";
  if (login.hidden) {
    login.hidden = false;
    document.getElementById("token").focus();
  }
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("token");
  sessionStorage.setItem(TOKEN, field.value.trim());
  field.value = "";
  refresh();
});

// What is open stays open, and what has the focus keeps it.
function show(text) {
  login.hidden = true;
  main.hidden = false;
  const open = new Set([...main.querySelectorAll("details[open]")].map((one) => one.id));
  const focused = main.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && placeOf(focused);
  const made = new DOMParser().parseFromString(text, "text/html");
  main.replaceChildren(...made.body.childNodes);
  for (const one of main.querySelectorAll("details")) one.open = open.has(one.id);
  for (const time of main.querySelectorAll("time")) localize(time);
  if (place) {
    const found = [...main.querySelectorAll("button, summary")].find((one) => placeOf(one) === place);
    if (found) found.focus({ preventScroll: true });
  }
}

function placeOf(element) {
  const around = element.closest("details, article");
  return element.tagName + (around ? around.tagName : "") + (element.dataset.call || (around && around.id) || "");
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

// The stream of events, read by fetch: an EventSource cannot show the token.
async function watch() {
  if (watching) return;
  watching = new AbortController();
  try {
    const headers = { Accept: "text/event-stream", ...shown() };
    const answer = await fetch("/v1/events", { headers, cache: "no-store", signal: watching.signal });
    if (answer.ok) {
      const reader = answer.body.getReader();
      while (!(await reader.read()).done) {
        if (!document.hidden && !hasMany()) soon();
      }
    }
  } catch {
    soon();
  }
  setTimeout(() => {
    watching = null;
  }, 1000);
}

function hasMany() {
  return main.querySelectorAll("details.origin").length > 200;
}

function beat() {
  if (!document.hidden && login.hidden) soon();
  setTimeout(beat, hasMany() ? 10000 : 2000);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && login.hidden) soon();
});

main.addEventListener("pointerdown", () => {
  pressed = Date.now();
});
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => {
    pressed = 0;
  });
}

// Nothing is done before it was asked for twice.
main.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-call]");
  if (!button) return;
  document.getElementById("ask-question").textContent = button.dataset.question;
  document.getElementById("ask-yes").textContent = button.textContent;
  const { call, body } = button.dataset;
  ask.returnValue = "no";
  ask.onclose = () => {
    if (ask.returnValue === "yes") act(call, body);
  };
  ask.showModal();
});

async function act(call, body) {
  try {
    const answer = await fetch(call, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...shown() },
      body: body ?? "{}",
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

refresh();
beat();
