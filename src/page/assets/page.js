// Refreshes the page in place, searches while the user types, and adds keys and buttons that copy. Every page works
// without this script.
"use strict";
(() => {
  const every = Number(document.body.dataset.refreshMs) || 10000;
  const state = document.getElementById("live-state");
  const toggle = document.getElementById("live-toggle");
  let timer = 0;
  let loading = null;
  let isLive = true;
  let failedAt = null;

  const time = (date) => date.toLocaleTimeString();

  // An element that has the focus, or is open, is found again by its id or its link.
  const nameOf = (element) => {
    if (element.id) return "#" + CSS.escape(element.id);
    const link = element.getAttribute("href");
    return link ? `a[href="${CSS.escape(link)}"]` : null;
  };

  const isSelecting = (part) => {
    const selection = window.getSelection();
    return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  };

  // What the server sent of each part, without the buttons that are added here.
  const sent = new WeakMap();
  for (const part of document.querySelectorAll("[data-live]")) sent.set(part, part.innerHTML);

  const copy = async (button, text) => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Over plain HTTP a browser has no clipboard: the text is selected, for the user to copy.
      window.getSelection().selectAllChildren(button.nextElementSibling);
      button.textContent = "Selected";
    }
  };

  const decorate = (part) => {
    for (const pre of part.querySelectorAll("pre")) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
      button.addEventListener("click", () => copy(button, pre.textContent));
      pre.before(button);
    }
  };
  decorate(document);

  const replace = (part, fresh) => {
    if (sent.get(part) === fresh.innerHTML) return;
    sent.set(part, fresh.innerHTML);
    const focused = part.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    const details = [...part.querySelectorAll("details[id]")];
    const opened = new Map(details.map((each) => [each.id, each.open]));
    const scrolled = [...part.querySelectorAll("pre")].map((each) => each.scrollTop);
    part.replaceChildren(...document.importNode(fresh, true).childNodes);
    for (const each of part.querySelectorAll("details[id]")) {
      if (opened.has(each.id)) each.open = opened.get(each.id);
    }
    part.querySelectorAll("pre").forEach((each, at) => { each.scrollTop = scrolled[at] || 0; });
    decorate(part);
    const again = focused && part.querySelector(focused);
    if (again) again.focus({ preventScroll: true });
  };

  const show = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const [x, y] = [window.scrollX, window.scrollY];
    const parts = [...document.querySelectorAll("[data-live]")];
    const next = parts.map((part) => fresh.getElementById(part.id));
    if (next.some((part) => !part) || fresh.querySelectorAll("[data-live]").length !== parts.length) {
      // The response is a different page: the group is gone, or the server is another one.
      document.getElementById("content").replaceChildren(
        ...document.importNode(fresh.getElementById("content"), true).childNodes);
      for (const part of document.querySelectorAll("[data-live]")) sent.set(part, part.innerHTML);
      decorate(document.getElementById("content"));
    } else {
      parts.forEach((part, at) => { if (!isSelecting(part)) replace(part, next[at]); });
    }
    document.title = fresh.title;
    window.scrollTo(x, y);
  };

  const load = async (address) => {
    clearTimeout(timer);
    if (loading) loading.abort();
    const request = loading = new AbortController();
    try {
      const answer = await fetch(address, { signal: request.signal, headers: { accept: "text/html" } });
      const text = await answer.text();
      if (!text.includes('id="content"')) throw new Error(`status ${answer.status}`);
      if (request !== loading) return;
      show(text);
      failedAt = null;
      state.textContent = "";
    } catch (error) {
      if (request !== loading || error.name === "AbortError") return;
      failedAt = failedAt || new Date();
      state.textContent = `No answer since ${time(failedAt)}; trying again`;
    }
    next();
  };

  const next = () => {
    clearTimeout(timer);
    if (isLive && !document.hidden) timer = setTimeout(() => load(location.href), every);
  };

  const go = (address, how) => {
    history[how]({}, "", address);
    return load(location.href);
  };

  const form = document.getElementById("filter");
  let typing = 0;
  const asked = () => {
    const fields = [...new FormData(form)].filter(([, value]) => value);
    return "./?" + new URLSearchParams(fields);
  };
  if (form) {
    const order = () => form.querySelector("[name=order]");
    form.addEventListener("input", (event) => {
      clearTimeout(typing);
      if (event.target.id === "sort" && order()) order().remove();
      const how = event.target.id === "q" ? "replaceState" : "pushState";
      typing = setTimeout(() => go(asked(), how), event.target.id === "q" ? 200 : 0);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      go(asked(), "pushState");
    });
  }

  // The form shows the query of the URL, also after a click on a heading or back.
  const fill = () => {
    if (!form) return;
    const asked = new URLSearchParams(location.search);
    for (const field of form.querySelectorAll("input[type=search], select")) {
      const value = asked.get(field.name) || "";
      if (field !== document.activeElement || field.tagName === "SELECT") field.value = value;
    }
    form.querySelector("[name=order]")?.remove();
    if (asked.get("order")) {
      const order = Object.assign(document.createElement("input"), { type: "hidden", name: "order" });
      order.value = asked.get("order");
      form.append(order);
    }
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !isPlain || event.defaultPrevented || !form) return;
    const to = new URL(link.href);
    if (to.origin !== location.origin || to.pathname !== location.pathname) return;
    if (!link.getAttribute("href").startsWith("./?")) return;
    event.preventDefault();
    to.hash = "";
    go(to.href, "pushState").then(() => {
      fill();
      if (!link.closest("thead") && !link.hasAttribute("aria-expanded")) document.getElementById("groups").scrollIntoView();
    });
  });

  // j and k move the focus from one row to the next, so that Enter opens it.
  const step = (by) => {
    const links = [...document.querySelectorAll("tbody th a")].filter((link) => link.checkVisibility());
    const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
    const to = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
    if (!links[to]) return;
    links[to].focus();
    links[to].scrollIntoView({ block: "nearest" });
  };

  const root = document.querySelector("a.home").href;
  const search = () => {
    const field = document.getElementById("q");
    if (!field) location.href = root + "#q";
    else { field.focus(); field.select(); }
  };
  const keys = document.getElementById("keys");
  const toKey = {
    "/": search,
    "j": () => step(1),
    "k": () => step(-1),
    "g": () => { location.href = root; },
    "?": () => keys.open ? keys.close() : keys.showModal(),
  };
  addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, select, textarea");
    if (isTyping && event.key === "Escape") event.target.blur();
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const run = Object.hasOwn(toKey, event.key) ? toKey[event.key] : null;
    if (!run || (keys.open && event.key !== "?")) return;
    event.preventDefault();
    run();
  });
  if (location.hash === "#q") search();
  const help = document.getElementById("keys-button");
  help.hidden = false;
  help.addEventListener("click", () => keys.showModal());

  addEventListener("popstate", () => { fill(); load(location.href); });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (isLive) load(location.href);
  });

  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    isLive = !isLive;
    toggle.setAttribute("aria-pressed", String(isLive));
    toggle.textContent = isLive ? "Live" : "Paused";
    if (isLive) load(location.href);
    else clearTimeout(timer);
  });
  next();
})();
