// The front end of live views: draws the HTML that the kernel sends, sends back actions, and reports
// every few seconds that the view is seen. It knows nothing about tasks.

const PING_MS = 10_000;
const ASK_MS = 4_000;

// Make `old` like `fresh`, changing only differences: focus, selection and scrolling stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.asking && old.getAttribute("data-ask") === fresh.getAttribute("data-ask")) return;
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) {
      old.removeAttribute(name);
    }
  }
  if (old.nodeName === "INPUT" && old !== document.activeElement) {
    old.value = fresh.getAttribute("value") ?? old.value;
    old.checked = fresh.hasAttribute("checked");
  }
  if (old.nodeName === "SELECT" && old === document.activeElement) return;
  const olds = [...old.childNodes];
  const news = [...fresh.childNodes];
  const follows = old.scrollHeight - old.scrollTop - old.clientHeight < 4 && old.scrollTop > 0;
  news.forEach((node, i) => {
    if (i < olds.length) morph(olds[i], node);
    else old.appendChild(node.cloneNode(true));
  });
  olds.slice(news.length).forEach((node) => node.remove());
  // A log that was scrolled to its end stays there.
  if (follows) old.scrollTop = old.scrollHeight;
}

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = `<div>${html}</div>`;
  return template.content.firstChild;
}

function argumentsOf(element) {
  try {
    return JSON.parse(element.dataset.args || "{}");
  } catch {
    return {};
  }
}

function render({ model, el }) {
  const page = Math.random().toString(36).slice(2);
  const root = document.createElement("div");
  root.className = "nbqueue-view";
  root.style.position = "relative";
  el.appendChild(root);

  const draw = () => {
    const fresh = parsed(model.get("html"));
    fresh.className = root.className;
    fresh.setAttribute("style", root.getAttribute("style"));
    morph(root, fresh);
  };
  const act = (action, args) => model.send({ kind: "act", action, args });

  const onClick = (event) => {
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
    act(field.dataset.change, { ...argumentsOf(field), value });
  };
  const onChange = (event) => {
    const field = event.target.closest("[data-change]");
    if (field) send(field);
  };
  const onInput = (event) => {
    event.target.sent = undefined;
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
  draw();
  ping();
  return () => {
    clearInterval(timer);
    watcher.disconnect();
    document.removeEventListener("visibilitychange", ping);
    model.off("change:html", draw);
    try {
      // A page that is closed sends nothing: when it is opened again it loads the widget.
      model.send({ kind: "gone", page });
    } catch {
      // The kernel has closed it, or is gone itself.
    }
  };
}

export default { render };
