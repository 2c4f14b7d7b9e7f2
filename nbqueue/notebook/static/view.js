// The front end of live views: draws the HTML that the kernel sends, sends back actions, and reports
// every few seconds that the view is seen. It knows nothing about tasks.

const PING_MS = 10_000;
const ASK_MS = 4_000;
const TYPING_MS = 500;
const GONE_MS = 1_000;
const LATE_MS = 1_000;

// A row or another part is named by `data-key`, a control by its action and its arguments. An element around
// a control alone, such as a cell, has the name of the control.
function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return "";
  if (node.dataset.key !== undefined) return `key ${node.dataset.key}`;
  return controlKey(node) || (node.childNodes.length === 1 && controlKey(node.firstChild)) || "";
}

function controlKey({ dataset }) {
  const action = dataset?.action || dataset?.change;
  return action ? `control ${action} ${dataset.args || ""}` : "";
}

// Make `old` like `fresh`, changing only differences, so that focus, selection and scrolling stay.
// `waits(field)` tells whether the kernel has yet to take the user's last change of a field into account.
function morph(old, fresh, waits) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.asking) {
    if (old.getAttribute("data-ask") === fresh.getAttribute("data-ask")) return;
    old.reset(); // it asked about something else
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) {
      old.removeAttribute(name);
    }
  }
  if (old.nodeName === "INPUT" && !waits(old)) {
    const value = fresh.getAttribute("value") ?? "";
    if (old.type === "checkbox") old.checked = fresh.hasAttribute("checked");
    else if (old.value !== value) old.value = value;
  }
  // The options of an open list would close it.
  if (old.nodeName === "SELECT" && (hasFocus(old) || waits(old))) return;
  const keepsPlace = scrolled(old);
  morphChildren(old, fresh, waits);
  if (old.nodeName === "SELECT") {
    const index = [...fresh.options].findIndex((option) => option.hasAttribute("selected"));
    if (index >= 0) old.selectedIndex = index;
  }
  keepsPlace();
}

// Give `old` the children of `fresh`: those with a name are moved, others are paired in their order.
function morphChildren(old, fresh, waits) {
  const named = new Map();
  const rest = [];
  for (const child of old.childNodes) {
    const key = keyOf(child);
    if (key && !named.has(key)) named.set(key, child);
    else rest.push(child);
  }
  const wanted = [...fresh.childNodes].map((node) => {
    const key = keyOf(node);
    let match = key ? named.get(key) : rest.shift();
    if (key) named.delete(key);
    if (match && match.nodeName !== node.nodeName) match = undefined;
    if (match) morph(match, node, waits);
    return match ?? opened(node.cloneNode(true));
  });
  const kept = new Set(wanted);
  for (const child of [...old.childNodes]) if (!kept.has(child)) child.remove();
  // A node that is moved loses the focus: others are moved around the one that has it.
  const focus = wanted.findIndex((node) => node.isConnected && hasFocus(node));
  place(old, wanted.slice(0, focus < 0 ? wanted.length : focus), old.firstChild);
  if (focus >= 0) place(old, wanted.slice(focus + 1), wanted[focus].nextSibling);
}

function hasFocus(node) {
  return node.contains(node.getRootNode().activeElement ?? null);
}

function place(parent, nodes, before) {
  let at = before;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

// New boxes of output open at their end, once they are in the page.
function opened(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node;
  const boxes = [node, ...node.querySelectorAll("[data-follow]")];
  requestAnimationFrame(() => {
    for (const box of boxes) if (box.matches("[data-follow]")) box.scrollTop = box.scrollHeight;
  });
  return node;
}

// Return what puts a box that scrolls back to where it is now: to its end if it is there and follows it, else
// to the same lines, although lines before them may have left the box.
function scrolled(box) {
  if (!box.hasAttribute("data-follow")) return () => {};
  if (box.scrollHeight - box.scrollTop - box.clientHeight < 4) {
    return () => {
      box.scrollTop = box.scrollHeight;
    };
  }
  const topOf = (each) => each.offsetTop - box.offsetTop;
  const first = [...box.children].find((each) => topOf(each) + each.offsetHeight > box.scrollTop);
  const distance = first ? topOf(first) - box.scrollTop : 0;
  return () => {
    if (first?.isConnected) box.scrollTop = topOf(first) - distance;
  };
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Copy the text of a button, and say so on it for a moment.
async function copy(button) {
  const word = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy";
  }
  setTimeout(() => {
    button.textContent = word;
  }, 1500);
}

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = `<div>${html}</div>`;
  template.content.querySelectorAll("time[data-local]").forEach(localize);
  return template.content.firstChild;
}

// Show a time in the zone of the browser, in the format of `zoned_time` in views/format.py.
function localize(element) {
  const moment = new Date(element.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  const two = (number) => String(number).padStart(2, "0");
  const dayOf = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":");
  const format = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });
  const zone = format.formatToParts(moment).find(({ type }) => type === "timeZoneName").value;
  const minutes = -moment.getTimezoneOffset();
  const size = Math.abs(minutes);
  const offset = `${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}${two(size % 60)}`;
  const isToday = element.dataset.local === "clock" && dayOf(moment) === dayOf(new Date());
  element.textContent = `${isToday ? "" : `${dayOf(moment)} `}${clock} ${zone}`;
  element.title = `${dayOf(moment)} ${clock} ${zone} (${offset})`;
}

function argumentsOf(element) {
  try {
    return JSON.parse(element.dataset.args || "{}");
  } catch {
    return {};
  }
}

// --- The end of the work: the browser's notification, and the title of the tab ---

// The models that `initialize` and `render` get are different objects, with one state.
function rings(model) {
  return model.get("bell") === true;
}

function permission() {
  return typeof Notification === "undefined" ? "denied" : Notification.permission;
}

function paintBell(button, model) {
  const word = rings(model) ? (permission() === "default" ? "Allow notification" : "Will notify") : "Notify me";
  button.setAttribute("aria-pressed", String(rings(model)));
  const field = button.querySelector("span");
  if (field.textContent !== word) field.textContent = word;
}

async function pressBell(button, model) {
  // A bell that the kernel set needs the permission of the user, which browsers ask for at a click only.
  const asks = rings(model) && permission() === "default";
  if (!asks) {
    model.set("bell", !rings(model));
    model.save_changes();
  }
  if (rings(model) && permission() === "default") await Notification.requestPermission();
  paintBell(button, model);
}

function notifyOf({ title, body, tag }) {
  if (permission() === "granted") {
    const shown = new Notification(title, { body, tag });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  }
  if (!isLookedAt()) markTab(title);
}

let mark = "";

function isLookedAt() {
  return document.visibilityState === "visible" && document.hasFocus();
}

function removeMark() {
  if (mark && document.title.startsWith(mark)) document.title = document.title.slice(mark.length);
  mark = "";
}

function markTab(title) {
  removeMark();
  mark = `${title} – `;
  document.title = mark + document.title;
  const looked = () => {
    if (!isLookedAt()) return;
    removeMark();
    window.removeEventListener("focus", looked);
    document.removeEventListener("visibilitychange", looked);
  };
  window.addEventListener("focus", looked);
  document.addEventListener("visibilitychange", looked);
}

// --- A model in a page ---

// What the views of a model in this page share: the name under which the kernel knows them, reports that they
// are there, and actions.
function connect(model) {
  const page = Math.random().toString(36).slice(2);
  const views = new Set();
  let number = 0;

  const send = (message) => {
    try {
      model.send({ ...message, page });
    } catch {
      // The kernel has closed the model, or is gone itself.
    }
  };
  const report = () => {
    const isSeen = document.visibilityState === "visible" && [...views].some((view) => view.isInView());
    send({ kind: "ping", seen: isSeen });
  };
  const reportLive = () => {
    if (views.size && model.get("live")) report();
  };
  // A page that is closed sends nothing: when it is opened again it loads the model.
  const reportGone = () => {
    if (!views.size) send({ kind: "gone" });
  };
  const timer = setInterval(reportLive, PING_MS);
  document.addEventListener("visibilitychange", reportLive);
  const onFile = (message) => {
    if (message.kind === "file" && message.page === page) save(message.name, message.text);
  };
  model.on("msg:custom", onFile);
  model.on("change:live", reportLive);
  let goneTimer;
  return {
    page,
    report: reportLive,
    send,
    act(action, args) {
      number += 1;
      send({ kind: "act", number, action, args });
      return number;
    },
    add(view) {
      views.add(view);
      report();
    },
    remove(view) {
      views.delete(view);
      // A cell that is moved comes back.
      clearTimeout(goneTimer);
      goneTimer = setTimeout(reportGone, GONE_MS);
    },
    close() {
      clearTimeout(goneTimer);
      clearInterval(timer);
      document.removeEventListener("visibilitychange", reportLive);
      model.off("msg:custom", onFile);
      model.off("change:live", reportLive);
      reportGone();
    },
  };
}

// Draw the view of a model into an element; return what removes it.
function draw({ model, el, connection }) {
  const root = document.createElement("div");
  root.className = "nbqueue-view";
  root.style.position = "relative";
  el.appendChild(root);

  let drawn;
  const update = () => {
    const state = JSON.stringify([model.get("html"), model.get("done")]);
    if (state === drawn) return;
    drawn = state;
    const fresh = parsed(model.get("html"));
    fresh.className = root.className;
    fresh.setAttribute("style", root.getAttribute("style"));
    const done = model.get("done")?.[connection.page] ?? 0;
    morph(root, fresh, (field) => field.isTyped || (field.sentAs ?? 0) > done);
    paintBells();
  };
  const paintBells = () => {
    for (const bell of root.querySelectorAll("[data-bell]")) paintBell(bell, model);
  };

  const onClick = (event) => {
    const bell = event.target.closest("[data-bell]");
    if (bell) pressBell(bell, model);
    const copied = event.target.closest("[data-copy]");
    if (copied) copy(copied);
    const button = event.target.closest("[data-action]");
    if (!button || button.disabled) return;
    const question = button.dataset.ask;
    if (question && !button.asking) {
      const word = button.textContent;
      button.asking = true;
      button.textContent = question;
      button.style.outline = "2px solid currentColor";
      const reset = () => {
        if (!button.asking) return;
        button.asking = false;
        button.textContent = word;
        button.style.outline = "";
      };
      button.reset = reset;
      setTimeout(reset, ASK_MS);
      return;
    }
    if (button.reset) button.reset();
    // What is typed was meant before what is pressed.
    for (const field of root.querySelectorAll("[data-as-typed]")) if (field.isTyped) send(field);
    connection.act(button.dataset.action, argumentsOf(button));
  };
  const send = (field) => {
    const value = field.type === "checkbox" ? field.checked : field.value;
    // Enter and leaving the field are one change.
    if (field.type === "text" && field.sent === value) return;
    field.sent = value;
    field.isTyped = false;
    clearTimeout(field.pause);
    field.sentAs = connection.act(field.dataset.change, { ...argumentsOf(field), value });
  };
  const onChange = (event) => {
    const field = event.target.closest("[data-change]");
    if (field) send(field);
  };
  const onInput = ({ target }) => {
    target.sent = undefined;
    target.isTyped = target.type === "text";
    clearTimeout(target.pause);
    if (target.matches("[data-as-typed]")) target.pause = setTimeout(() => send(target), TYPING_MS);
  };
  const onKey = (event) => {
    // Sent from here: the page's shortcuts can suppress the browser's "change" event.
    const field = event.key === "Enter" && event.target.closest('input[type="text"][data-change]');
    if (!field) return;
    event.preventDefault();
    event.stopPropagation();
    send(field);
  };

  let isInView = true;
  const watcher = new IntersectionObserver((entries) => {
    const was = isInView;
    isInView = entries[entries.length - 1].isIntersecting;
    if (isInView && !was) connection.report();
  });
  watcher.observe(root);
  root.addEventListener("click", onClick);
  root.addEventListener("change", onChange);
  root.addEventListener("input", onInput);
  root.addEventListener("keydown", onKey, true);
  model.on("change:html", update);
  model.on("change:done", update);
  model.on("change:bell", paintBells);
  update();
  const view = { isInView: () => isInView && root.isConnected };
  connection.add(view);
  return () => {
    watcher.disconnect();
    model.off("change:html", update);
    model.off("change:done", update);
    model.off("change:bell", paintBells);
    root.remove();
    connection.remove(view);
  };
}

// --- Stills, which notebooks save, and live views in their place ---

// Show the view of a model in place of what `host` contains, beside it: the host's content can then be replaced
// by a newer still without a trace in the live view, such as in its focus or a half-typed text.
function coverStill(host, model, connection) {
  const el = document.createElement("div");
  // The styles of rendered HTML would change those of the view.
  el.className = [...host.classList].filter((name) => !/rendered/i.test(name)).join(" ");
  host.after(el);
  const remove = draw({ model, el, connection });
  host.style.setProperty("display", "none", "important");
  return () => {
    host.style.removeProperty("display");
    remove();
    el.remove();
  };
}

function stillsIn(node, selector) {
  if (node.nodeType !== Node.ELEMENT_NODE) return [];
  const found = [...node.querySelectorAll(selector)];
  return node.matches(selector) ? [node, ...found] : found;
}

// Call `look` whenever elements that have this name in `data-nbqueue-view` come and go; return what ends that.
// A page loads this module once for each model, and watches the document once for all of them.
function watchStills(name, look) {
  const key = Symbol.for("nbqueue.stills");
  globalThis[key] ??= watchDocument();
  const looks = globalThis[key];
  looks.set(name, look);
  return () => {
    if (looks.get(name) === look) looks.delete(name);
  };
}

function watchDocument() {
  const looks = new Map();
  const observer = new MutationObserver((records) => {
    const names = new Set();
    for (const { addedNodes, removedNodes } of records) {
      for (const node of [...addedNodes, ...removedNodes]) {
        for (const still of stillsIn(node, "[data-nbqueue-view]")) names.add(still.dataset.nbqueueView);
      }
    }
    for (const name of names) looks.get(name)?.();
  });
  observer.observe(document.documentElement, { childList: true, subtree: true });
  return looks;
}

// Call `onLoss` when the kernel of a model restarts or ends, which closes no model.
function watchKernel(model, onLoss) {
  const kernel = model.widget_manager?.kernel;
  const onStatus = (_, status) => {
    if (/restarting|terminating|dead/.test(status)) onLoss();
  };
  kernel?.statusChanged?.connect(onStatus);
  kernel?.disposed?.connect(onLoss);
  return () => {
    kernel?.statusChanged?.disconnect(onStatus);
    kernel?.disposed?.disconnect(onLoss);
  };
}

function selectorOf(name) {
  return `[data-nbqueue-view="${CSS.escape(name)}"]`;
}

// Have a notebook that was opened after the display, where updates do not reach it, save the newest still, too.
function keepSaved(model, name, connection) {
  const selector = selectorOf(name);
  const cells = () => [...(model.widget_manager?.context?.model?.cells ?? [])];
  let timer;
  const check = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const stills = stillsIn(document.documentElement, selector);
      const isLate = stills.some((still) => still.dataset.nbqueueStill !== String(model.get("saved")));
      if (isLate && cells().length) connection.send({ kind: "still" });
    }, LATE_MS);
  };
  const onStill = (message) => {
    if (message.kind !== "still" || message.page !== connection.page) return;
    for (const { outputs } of cells()) {
      for (let i = 0; i < (outputs?.length ?? 0); i += 1) {
        const output = outputs.get(i).toJSON();
        if (String(output.data?.["text/html"]).includes(name)) outputs.set(i, { ...output, data: message.data });
      }
    }
  };
  model.on("change:saved", check);
  model.on("msg:custom", onStill);
  check();
  return () => {
    clearTimeout(timer);
    model.off("change:saved", check);
    model.off("msg:custom", onStill);
  };
}

function showInPlace(model, name) {
  const connection = connect(model);
  const covers = new Map(); // by the element whose content is a still
  const selector = selectorOf(name);
  const endSaving = keepSaved(model, name, connection);
  const look = () => {
    const hosts = new Set(stillsIn(document.documentElement, selector).map((still) => still.parentElement));
    for (const [host, uncover] of covers) {
      if (hosts.has(host)) continue;
      uncover();
      covers.delete(host);
    }
    for (const host of hosts) {
      if (!covers.has(host)) covers.set(host, coverStill(host, model, connection));
    }
  };
  const end = () => {
    unwatchStills();
    unwatchKernel();
    endSaving();
    for (const uncover of covers.values()) uncover();
    covers.clear();
    connection.close();
  };
  const unwatchStills = watchStills(name, look);
  const unwatchKernel = watchKernel(model, end);
  look();
  return end;
}

// For each model, when it is opened and when the page loads those of the kernel.
function initialize({ model }) {
  const onEnd = (message) => {
    if (message.kind === "ended" && rings(model)) notifyOf(message);
  };
  model.on("msg:custom", onEnd);
  const name = model.get("still");
  const end = name ? showInPlace(model, name) : () => {};
  return () => {
    model.off("msg:custom", onEnd);
    end();
  };
}

// For a model that is displayed itself, where models are apart from the outputs.
function render({ model, el }) {
  const connection = connect(model);
  const remove = draw({ model, el, connection });
  return () => {
    remove();
    connection.close();
  };
}

export default { initialize, render };
