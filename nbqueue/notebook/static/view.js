// The front end of live views: draws the HTML that the kernel sends, sends back actions, and reports
// every few seconds that the view is seen. It knows nothing about tasks.

const PING_MS = 10_000;
const ASK_MS = 4_000;

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

// For each model, whether or not a view of it is in the page: a settled or scrolled one is not.
function initialize({ model }) {
  const onEnd = (message) => {
    if (message.kind === "ended" && rings(model)) notifyOf(message);
  };
  model.on("msg:custom", onEnd);
  return () => model.off("msg:custom", onEnd);
}

function render({ model, el }) {
  const page = Math.random().toString(36).slice(2);
  const root = document.createElement("div");
  root.className = "nbqueue-view";
  root.style.position = "relative";
  el.appendChild(root);

  let drawn;
  const draw = () => {
    const state = JSON.stringify([model.get("html"), model.get("done")]);
    if (state === drawn) return;
    drawn = state;
    const fresh = parsed(model.get("html"));
    fresh.className = root.className;
    fresh.setAttribute("style", root.getAttribute("style"));
    const done = model.get("done")?.[page] ?? 0;
    morph(root, fresh, (field) => field.isTyped || (field.sentAs ?? 0) > done);
    paintBells();
  };
  const paintBells = () => {
    for (const bell of root.querySelectorAll("[data-bell]")) paintBell(bell, model);
  };
  let number = 0;
  const act = (action, args) => {
    number += 1;
    model.send({ kind: "act", page, number, action, args });
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
    act(button.dataset.action, argumentsOf(button));
  };
  const send = (field) => {
    const value = field.type === "checkbox" ? field.checked : field.value;
    // Enter and leaving the field are one change.
    if (field.type === "text" && field.sent === value) return;
    field.sent = value;
    field.isTyped = false;
    act(field.dataset.change, { ...argumentsOf(field), value });
    field.sentAs = number;
  };
  const onChange = (event) => {
    const field = event.target.closest("[data-change]");
    if (field) send(field);
  };
  const onInput = (event) => {
    event.target.sent = undefined;
    event.target.isTyped = event.target.type === "text";
  };
  const onFile = (message) => {
    if (message.kind === "file" && message.page === page) save(message.name, message.text);
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
  const ping = () => {
    if (document.visibilityState === "visible" && isInView && root.isConnected) {
      model.send({ kind: "ping", page });
    }
  };
  const watcher = new IntersectionObserver((entries) => {
    const was = isInView;
    isInView = entries[entries.length - 1].isIntersecting;
    if (isInView && !was) ping();
  });
  watcher.observe(root);
  const timer = setInterval(ping, PING_MS);
  document.addEventListener("visibilitychange", ping);
  root.addEventListener("click", onClick);
  root.addEventListener("change", onChange);
  root.addEventListener("input", onInput);
  root.addEventListener("keydown", onKey, true);
  model.on("change:html", draw);
  model.on("change:done", draw);
  model.on("change:bell", paintBells);
  model.on("msg:custom", onFile);
  draw();
  ping();
  return () => {
    clearInterval(timer);
    watcher.disconnect();
    document.removeEventListener("visibilitychange", ping);
    model.off("change:html", draw);
    model.off("change:done", draw);
    model.off("change:bell", paintBells);
    model.off("msg:custom", onFile);
    try {
      // A page that is closed sends nothing: when it is opened again it loads the widget.
      model.send({ kind: "gone", page });
    } catch {
      // The kernel has closed it, or is gone itself.
    }
  };
}

export default { initialize, render };
